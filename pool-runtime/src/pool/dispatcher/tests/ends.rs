//! How workers end and are replaced: deaths, starts that fail, closing and terminating.

use super::*;

#[test]
fn a_lost_worker_costs_the_call_that_it_had_started() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 5), 0).unwrap();
    let (seat, calls) = sent(&mut pool).remove(0);
    pool.value(seat, calls[0], 1, 0).unwrap();
    pool.lost(seat, 1, &loss(), calls[1].number, 0);
    assert_eq!(finished(&mut pool), [(0, true), (1, false)]);
    assert_eq!(pool.counts().waiting, 3);
    let Start::Now { epoch: 2 } = pool.next_start(seat, 0) else { panic!("no new worker") };
    pool.ready(seat, 2, 0);
    let again: Vec<_> = sent(&mut pool).remove(0).1;
    assert_eq!(again.iter().map(|call| (call.job, call.attempt)).collect::<Vec<_>>(), [(2, 1), (3, 1), (4, 1)]);
}

#[test]
fn a_call_whose_workers_die_before_it_starts_is_given_up_in_the_end() {
    let mut pool = pool(1);
    pool.add(work(0, 1), 0).unwrap();
    let mut deaths = 0;
    while pool.counts().failed == 0 {
        let claimed = sent(&mut pool).remove(0).1[0].number - 1;
        deaths += 1;
        // It lived long enough not to count as one that cannot start.
        let now = deaths * 10_000 * MILLISECOND;
        pool.lost(0, deaths as u32, &loss(), claimed, now);
        if let Start::Now { epoch } = pool.next_start(0, now) {
            pool.ready(0, epoch, now);
        }
    }
    assert_eq!(deaths, u64::from(MAX_DEATHS));
}

#[test]
fn what_waits_behind_a_call_whose_workers_die_before_it_starts_is_spared() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 44), 0).unwrap();
    let mut alone = 0;
    for epoch in 1..=MAX_DEATHS {
        let calls: Vec<_> = sent(&mut pool).into_iter().flat_map(|(_, calls)| calls).collect();
        assert_eq!(calls[0].job, 0);
        alone += u32::from(calls.len() == 1);
        // Young, and by its own doing.
        pool.lost(0, epoch, &loss(), calls[0].number - 1, u64::from(epoch));
        if epoch < MAX_DEATHS {
            let now = (1 + u64::from(epoch)) * LONGEST_BACK_OFF;
            let Start::Now { epoch } = pool.next_start(0, now) else { panic!("given up after {epoch}") };
            pool.ready(0, epoch, now);
        }
    }
    assert_eq!(alone, MAX_DEATHS - 2, "it goes alone once two workers have died");
    assert_eq!(finished(&mut pool), [(0, false)]);
    assert!(pool.accepts().is_ok());
    assert_eq!(pool.counts().waiting, 43);
}

#[test]
fn calls_whose_workers_die_before_they_start_do_not_end_the_pool() {
    let mut pool = pool(1);
    let bad = 20;
    for job in 0..=bad {
        pool.add(work(job, 1), 0).unwrap();
    }
    let (mut now, mut epoch, mut ended) = (0, 1, Vec::new());
    for deaths in 0.. {
        let news = effects(&mut pool);
        ended.extend(news.iter().flat_map(ends));
        let sent = |effect: &Effect<Calls>| match *effect {
            Effect::Send { seat, first, last, .. } => Some(headers(pool.flights(seat, first, last))[0]),
            _ => None,
        };
        let Some(call) = news.iter().find_map(sent) else { panic!("no call was sent after {deaths} deaths") };
        if call.job == bad {
            assert_eq!(deaths, bad * u64::from(MAX_DEATHS));
            break;
        }
        pool.lost(0, epoch, &loss(), call.number.wrapping_sub(1), now);
        // Not at full speed, and not ever more slowly: others wait behind.
        let Start::NotBefore(then) = pool.next_start(0, now) else { panic!("at once after {deaths} deaths") };
        assert!(then - now < LONGEST_BACK_OFF / 10);
        now = then;
        let Start::Now { epoch: next } = pool.next_start(0, now) else { panic!("given up after {deaths} deaths") };
        epoch = next;
        pool.ready(0, epoch, now);
    }
    assert!(ended.into_iter().eq((0..bad).map(|job| (job, false))));
}

#[test]
fn a_death_that_is_told_twice_counts_once() {
    let mut pool = pool(1);
    pool.lost(0, 1, &loss(), 0, MILLISECOND);
    pool.close(0);
    assert!(matches!(pool.next_start(0, MILLISECOND), Start::Never));
    pool.lost(0, 1, &loss(), 0, MILLISECOND);
    assert!(pool.is_finished(), "the seat is open again");
}

#[test]
fn a_call_behind_many_that_kill_their_workers_is_run_in_the_end() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let killers = u64::from(2 * MAX_DEATHS);
    for job in 0..=killers {
        pool.add(work(job, 1), 0).unwrap();
    }
    for epoch in 1..=killers as u32 {
        let call = sent(&mut pool).remove(0).1[0];
        pool.lost(0, epoch, &loss(), call.number, 0);
        assert_eq!(pool.next_start(0, 0), Start::Now { epoch: epoch + 1 });
        pool.ready(0, epoch + 1, 0);
    }
    assert_eq!(sent(&mut pool).remove(0).1[0].job, killers);
    assert_eq!(pool.counts().failed, killers);
}

#[test]
fn a_worker_that_had_its_number_of_calls_is_replaced() {
    let mut pool = made(1, Limits { tasks_per_child: 2, ..LIMITS });
    pool.next_start(0, 0);
    pool.ready(0, 1, 0);
    warm_up(&mut pool, 10_000);
    pool.add(work(0, 5), 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 1, "one of two was the warming up");
    pool.value(0, calls[0], 1, 0).unwrap();
    assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
    pool.lost(0, 1, &loss(), calls[0].number, 0);
    assert_eq!(pool.next_start(0, 0), Start::Now { epoch: 2 });
}

#[test]
fn starts_that_fail_are_tried_again_later_and_then_given_up() {
    let mut pool = made(2, LIMITS);
    pool.add(work(0, 3), 0).unwrap();
    let mut now = 0;
    for tries in 1..=MAX_FAILED_STARTS {
        assert_eq!(pool.counts().failed, 0, "after {} tries", tries - 1);
        let epoch = loop {
            match pool.next_start(0, now) {
                Start::Now { epoch } => break epoch,
                Start::NotBefore(time) => now = time,
                Start::Never => panic!("given up after {} tries", tries - 1),
            }
        };
        pool.start_failed(0, epoch, MISTAKE, now);
    }
    assert!(now > 0, "there was a pause");
    let told = effects(&mut pool);
    let given_up = Effect::StartsFailed::<Calls> { tries: MAX_FAILED_STARTS, then: AfterStarts::GiveUpPool };
    assert_eq!(format!("{:?}", told[0]), format!("{given_up:?}"), "why comes before those who ask");
    assert_eq!(told.iter().flat_map(ends).collect::<Vec<_>>(), [(0, false), (1, false), (2, false)]);
    assert_eq!(pool.add(work(3, 1), now), Err(Refusal::Failed));
    assert_eq!(pool.next_start(0, now), Start::Never);
    assert_eq!(pool.next_start(1, now), Start::Never);
    assert!(pool.is_finished());
}

#[test]
fn a_shortage_passes_and_a_mistake_does_not() {
    let short = FailedStart { may_pass: true, ..MISTAKE };
    for (failed, tried_on) in [(short, true), (MISTAKE, false)] {
        let mut pool = pool(2);
        pool.lost(1, 1, &loss(), 0, 0);
        let mut now = LONGEST_BACK_OFF;
        for _ in 0..3 * MAX_FAILED_STARTS {
            let Start::Now { epoch } = pool.next_start(1, now) else { break };
            pool.start_failed(1, epoch, failed, now);
            now += LONGEST_BACK_OFF;
        }
        assert_eq!(pool.next_start(1, now) != Start::Never, tried_on, "{failed:?}");
        assert!(pool.accepts().is_ok(), "the other one works");
    }
}

#[test]
fn a_shortage_is_borne_for_a_while_where_nobody_else_works() {
    let mut pool = pool(1);
    pool.lost(0, 1, &killed(), 0, 0);
    let (mut now, mut tries) = (0, 0);
    let over = loop {
        match pool.next_start(0, now) {
            Start::Now { epoch } => pool.start_failed(0, epoch, FailedStart { may_pass: true, ..MISTAKE }, now),
            Start::NotBefore(time) => now = time,
            Start::Never => break now,
        }
        tries += 1;
    };
    let period = RestartPolicy::default().period.as_nanos() as Time;
    assert!(tries > MAX_FAILED_STARTS && (period..period + 2 * LONGEST_BACK_OFF).contains(&over), "{over}");
}

#[test]
fn where_nothing_is_restarted_a_lost_worker_is_the_end() {
    let mut pool = Dispatcher::new(1, LIMITS, RestartPolicy::NEVER);
    let Start::Now { epoch } = pool.next_start(0, 0) else { panic!("it is not started at all") };
    pool.ready(0, epoch, 0);
    pool.add(work(0, 2), 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    pool.lost(0, epoch, &loss(), calls[0].number, 10_000 * MILLISECOND);
    assert_eq!(finished(&mut pool), [(0, false), (1, false)]);
    assert_eq!(pool.next_start(0, Time::MAX), Start::Never);
    assert!(pool.is_finished());
}

#[test]
fn a_pool_whose_workers_are_killed_now_and_then_goes_on() {
    let mut pool = pool(1);
    let killed = killed();
    let mut now = 0;
    for round in 1..20 {
        // Young and idle, again and again; but in between, work is done.
        pool.lost(0, 2 * round - 1, &killed, 0, now);
        now += LONGEST_BACK_OFF;
        let Start::Now { epoch } = pool.next_start(0, now) else { panic!("given up after {round} deaths") };
        pool.ready(0, epoch, now);
        pool.add(work(u64::from(round), 1), now).unwrap();
        let (_, calls) = sent(&mut pool).remove(0);
        pool.report(0, epoch, (calls[0].number, 1), None).unwrap();
        pool.progressed(0, epoch, now);
        pool.lost(0, epoch, &killed, calls[0].number, now);
        let Start::Now { epoch } = pool.next_start(0, now) else { panic!("given up after {round} deaths") };
        pool.ready(0, epoch, now);
    }
}

#[test]
fn closing_lets_everything_finish_and_terminating_nothing() {
    let mut closed = pool(1);
    closed.add(work(0, 2), 0).unwrap();
    closed.close(0);
    assert_eq!(closed.add(work(9, 1), 0), Err(Refusal::Closed));
    for _ in 0..2 {
        let (seat, calls) = sent(&mut closed).remove(0);
        closed.value(seat, calls[0], 5 * MILLISECOND, 0).unwrap();
    }
    assert!(effects(&mut closed).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
    let mut terminated = pool(1);
    terminated.add(work(0, 2), 0).unwrap();
    assert_eq!(terminated.terminate(), 2);
    assert_eq!(terminated.terminate(), 0);
    let effects = effects(&mut terminated);
    assert_eq!(effects.iter().flat_map(ends).count(), 2);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Kill { .. })));
}

#[test]
fn a_seat_that_cannot_start_does_not_fail_the_pool_while_others_are_on_their_way() {
    let mut pool = made(2, LIMITS);
    assert_eq!(pool.next_start(0, 0), Start::Now { epoch: 1 });
    let mut now = 0;
    for _ in 0..MAX_FAILED_STARTS {
        let Start::Now { epoch } = pool.next_start(1, now) else { panic!("not tried") };
        pool.start_failed(1, epoch, MISTAKE, now);
        now += LONGEST_BACK_OFF;
    }
    assert!(pool.accepts().is_ok());
    pool.ready(0, 1, now);
    assert_eq!(pool.next_start(1, now), Start::Never, "that one is given up");
}

#[test]
fn a_worker_that_does_not_leave_is_killed_after_its_grace_unless_it_joins() {
    let grace = 100 * MILLISECOND;
    let mut pool = made(1, Limits { exit_grace: grace, terminate_grace: 1, ..LIMITS });
    let Start::Now { epoch } = pool.next_start(0, 0) else { panic!("it cannot start") };
    pool.ready(0, epoch, 0);
    pool.close(5);
    assert!(matches!(effects(&mut pool)[..], [Effect::Stop { seat: 0, .. }]));
    assert_eq!(pool.next_tick(), Some(5 + grace));
    pool.tick(5 + grace);
    assert!(matches!(effects(&mut pool)[..], [Effect::Look { seat: 0, memory: false, .. }]));
    pool.seen(0, epoch, Observation { joins: true, ..Observation::default() }, 6 + grace);
    assert!(effects(&mut pool).is_empty());
    assert_eq!(pool.next_tick(), Some(6 + 2 * grace));
    pool.tick(6 + 2 * grace);
    effects(&mut pool);
    pool.seen(0, epoch, Observation::default(), 7 + 2 * grace);
    // At once, as it was asked to leave before.
    assert!(matches!(effects(&mut pool)[..], [Effect::Overstayed { .. }, Effect::Kill { .. }]));
}

#[test]
fn a_worker_that_is_asked_to_end_is_killed_when_its_time_is_over() {
    let mut pool = made(1, Limits { terminate_grace: 100, ..LIMITS });
    let Start::Now { epoch } = pool.next_start(0, 0) else { panic!("it cannot start") };
    pool.ready(0, epoch, 0);
    pool.terminate();
    assert!(matches!(effects(&mut pool)[..], [Effect::AskToEnd { seat: 0, generation: 0, .. }]));
    assert!(pool.next_tick().is_some_and(|at| at <= 7), "its time begins at once");
    pool.tick(7);
    assert_eq!((effects(&mut pool).len(), pool.next_tick()), (0, Some(107)));
    pool.tick(107);
    assert!(matches!(effects(&mut pool)[..], [Effect::Kill { seat: 0, .. }]));
    assert_eq!(pool.next_tick(), None);
}

/// Runs one call in a pool whose workers run one each, which may be closed before. Returns what becomes of the worker.
fn after_its_only_call(pool: &mut Dispatcher<Calls>, is_closed: bool) -> Vec<Effect<Calls>> {
    let Start::Now { epoch } = pool.next_start(0, 0) else { panic!("it cannot start") };
    pool.ready(0, epoch, 0);
    pool.add(work(0, 1), 0).unwrap();
    let (seat, calls) = sent(pool).remove(0);
    if is_closed {
        pool.close(0);
    }
    pool.value(seat, calls[0], 1, 0).unwrap();
    effects(pool)
}

#[test]
fn a_worker_is_replaced_only_where_calls_may_follow() {
    for is_closed in [false, true] {
        let mut pool = made(1, Limits { tasks_per_child: 1, ..LIMITS });
        let effects = after_its_only_call(&mut pool, is_closed);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Stop { .. })));
        assert_eq!(effects.iter().any(|effect| matches!(effect, Effect::Retired { .. })), !is_closed);
    }
}

#[test]
fn a_worker_that_was_to_leave_and_had_to_be_killed_is_replaced_as_planned() {
    let grace = 100 * MILLISECOND;
    let mut pool = made(1, Limits { tasks_per_child: 1, exit_grace: grace, ..LIMITS });
    after_its_only_call(&mut pool, false);
    pool.tick(grace);
    effects(&mut pool);
    pool.seen(0, 1, Observation { claimed: 1, ..Observation::default() }, grace);
    assert!(matches!(effects(&mut pool)[..], [Effect::Overstayed { .. }, Effect::Kill { .. }]));
    pool.lost(0, 1, &loss(), 1, grace);
    let Start::Now { epoch: 2 } = pool.next_start(0, grace) else { panic!("no new worker") };
    assert!(!pool.seat(0).was_lost);
    pool.ready(0, 2, grace);
    assert_eq!(pool.counts().restarts, 0);
}
