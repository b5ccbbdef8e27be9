//! Limits of time and memory, workers that lie about what they run, and those that do not answer.

use super::*;

/// A call with a timeout, sent to the only worker of a pool.
fn limited(seats: usize, policy: Policy) -> (Simple, usize, CallHeader) {
    let mut pool = pool(seats);
    pool.add(Calls { policy, ..work(0, 1) }, 0).unwrap();
    let (seat, calls) = sent(&mut pool).remove(0);
    (pool, seat, calls[0])
}

/// Ticks until a time, and answers each look with what the page is said to show. Returns when calls were taken back.
fn lies(pool: &mut Simple, seat: usize, shows: impl Fn(Time) -> Observation, until: Time) -> Option<Time> {
    let mut looks = 0;
    while let Some(now) = pool.next_tick().filter(|at| *at <= until) {
        pool.tick(now);
        for effect in effects(pool) {
            match effect {
                Effect::Look { seat: at, .. } => {
                    looks += 1;
                    assert!(looks < 10_000, "it looks and looks");
                    let shows = if at == seat { shows(now) } else { Observation::default() };
                    pool.seen(at, 1, shows, now);
                }
                Effect::TakeBack { .. } => return Some(now),
                other => panic!("{other:?}"),
            }
        }
        if pool.effects.iter().any(|effect| matches!(effect, Effect::TakeBack { .. })) {
            return Some(now);
        }
    }
    None
}

#[test]
fn a_limit_of_time_holds_whatever_the_page_says() {
    let policy = Policy { timeout: SECOND, ..Policy::NONE };
    for lie in 0..2 {
        let (mut pool, seat, call) = limited(1, policy);
        let shows = |now: Time| match lie {
            0 => Observation { claimed: call.number - 1, ..Observation::default() },
            _ => Observation { claimed: call.number, started: Some(now), ..Observation::default() },
        };
        let at = lies(&mut pool, seat, shows, 60 * SECOND).expect("it is never condemned");
        assert!((SECOND..=SECOND + LIMITS.grace + MILLISECOND).contains(&at), "lie {lie}: {at}");
        pool.taken_back(seat, 1, shows(at).claimed, at);
        assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })), "lie {lie}");
        pool.lost(seat, 1, &killed(), shows(at).claimed, at);
        let failure = effects(&mut pool).into_iter().find_map(|effect| failure(Some(effect))).expect("an end");
        assert!(
            matches!(failure.why, Why::Lost { condemned: Some(Excess::Time { .. }), .. }),
            "lie {lie}: {failure:?}"
        );
        assert_eq!(failure.ran, if lie == 1 { Ran::Yes } else { Ran::Maybe });
    }
}

#[test]
fn what_a_task_was_granted_is_kept() {
    let policy = Policy { timeout: SECOND, soft_timeout: SECOND / 2, ..Policy::NONE };
    let (mut pool, seat, call) = limited(1, policy);
    let granted = 10 * SECOND;
    let honest = Observation { claimed: call.number, started: Some(0), ..Observation::default() };
    let shows = |_| Observation { extended: Some(granted), ..honest };
    let at = lies(&mut pool, seat, shows, 60 * SECOND).expect("it is never condemned");
    assert_eq!(at, granted);
}

/// A pool of one whose memory is looked at, and a call in it that may use 100 bytes.
fn weighed(limits: Limits, before: &[Policy]) -> (Simple, CallHeader) {
    let mut pool = made(1, Limits { weigh_every: EVERY, ..limits });
    pool.next_start(0, 0);
    pool.ready(0, 1, 0);
    for policy in before {
        pool.add(Calls { policy: *policy, ..work(9, 1) }, 0).unwrap();
        let (_, calls) = sent(&mut pool).remove(0);
        pool.value(0, calls[0], 10_000, 0).unwrap();
    }
    effects(&mut pool);
    pool.add(Calls { policy: SMALL, ..work(0, 1) }, 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    (pool, calls[0])
}

const EVERY: Time = 10 * MILLISECOND;
const SMALL: Policy = Policy { memory: 100, ..Policy::NONE };

#[test]
fn a_limit_of_memory_holds_for_the_seat_however_little_there_is_in_between() {
    // Its worker may have more, from a call without a limit.
    for pause in [0, 1, 50] {
        let (mut pool, call) = weighed(LIMITS, &[Policy::NONE]);
        let shows = |at: Time| Observation {
            claimed: call.number - 1,
            memory: Some(if (at / EVERY).is_multiple_of(pause + 1) { 101 } else { 0 }),
            ..Observation::default()
        };
        let at = lies(&mut pool, 0, shows, 60 * SECOND).expect("it is never condemned");
        pool.taken_back(0, 1, call.number - 1, at);
        assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })));
        assert!((LIMITS.grace..LIMITS.grace + SECOND).contains(&at), "{at}");
    }
}

#[test]
fn what_a_look_saw_of_the_next_call_is_nothing_against_the_one_before() {
    let (mut pool, first) = weighed(LIMITS, &[Policy::NONE]);
    let at = 10 * SECOND;
    pool.tick(at);
    effects(&mut pool);
    // Its report was not there yet when reports were read.
    let next = Observation { claimed: first.number + 1, memory: Some(101), ..Observation::default() };
    pool.add(work(1, 1), at).unwrap();
    pool.seats[0].worker.sent = first.number + 1;
    pool.seen(0, 1, next, at);
    pool.value(0, first, 10_000, at).unwrap();
    pool.tick(at + EVERY);
    pool.seen(0, 1, next, at + EVERY);
    assert!(!effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. } | Effect::TakeBack { .. })));
}

/// Ticks until the worker is killed, and shows it so much memory. Returns when that was.
fn time_killed(pool: &mut Simple, epoch: u32, shows: Observation, until: Time) -> Option<Time> {
    while let Some(now) = pool.next_tick().filter(|at| *at <= until) {
        pool.tick(now);
        while let Some(effect) = pool.effect() {
            match effect {
                Effect::Look { .. } => pool.seen(0, epoch, shows, now),
                Effect::TakeBack { .. } => pool.taken_back(0, epoch, shows.claimed, now),
                Effect::Kill { .. } => return Some(now),
                _ => {}
            }
        }
    }
    None
}

#[test]
fn a_worker_with_more_memory_than_any_of_its_calls_may_use_is_killed() {
    // Whatever it says: twice nobody is blamed; then the only one that was there each time is.
    let (mut pool, mut call) = weighed(LIMITS, &[]);
    let mut now = 0;
    for epoch in 1..=3 {
        let shows = Observation { claimed: call.number - 1, memory: Some(101), ..Observation::default() };
        let at = time_killed(&mut pool, epoch, shows, now + SECOND).expect("it lives");
        assert!(at - now <= 3 * EVERY, "{at}");
        pool.lost(0, epoch, &loss(), call.number - 1, at);
        now = at + LONGEST_BACK_OFF;
        if epoch < 3 {
            assert!(finished(&mut pool).is_empty());
            pool.next_start(0, now);
            pool.ready(0, epoch + 1, now);
            call = sent(&mut pool).remove(0).1[0];
        }
    }
    let Some(CallFailure { why, ran, .. }) = next_failure(&mut pool) else { panic!("it has not ended") };
    let excess = Some(Excess::Memory { limit: 100, used: 101 });
    assert!(matches!(why, Why::Lost { condemned, .. } if condemned == excess), "{why:?}");
    assert_eq!(ran, Ran::Maybe);
}

#[test]
fn an_idle_worker_is_weighed_ever_more_seldom_unless_it_grows() {
    let (mut pool, call) = weighed(LIMITS, &[]);
    pool.value(0, call, 10_000, MILLISECOND).unwrap();
    effects(&mut pool);
    let (mut looks, mut at) = (0, 0);
    while let Some(now) = pool.next_tick().filter(|at| *at <= 100 * SECOND) {
        pool.tick(now);
        for effect in effects(&mut pool) {
            assert!(matches!(effect, Effect::Look { memory: true, .. }), "{effect:?}");
            (looks, at) = (looks + 1, now);
            pool.seen(0, 1, Observation { claimed: call.number, memory: Some(90), ..Observation::default() }, now);
        }
    }
    // It never ends, as it may go on whenever it likes.
    assert!((50..100).contains(&looks) && at > 98 * SECOND, "{looks} looks, the last one at {at}");
    let shows = Observation { claimed: call.number, memory: Some(101), ..Observation::default() };
    assert!(time_killed(&mut pool, 1, shows, at + 2 * SECOND).is_some());
    // One whose calls may use anything is left alone.
    for before in [&[Policy::NONE][..], &[]] {
        let (mut pool, call) = weighed(LIMITS, before);
        pool.value(0, call, 10_000, MILLISECOND).unwrap();
        let shows = Observation { claimed: call.number, memory: Some(101), ..Observation::default() };
        assert_eq!(time_killed(&mut pool, 1, shows, SECOND).is_none(), !before.is_empty());
    }
}

#[test]
fn a_worker_that_leaves_is_weighed() {
    let (mut pool, call) = weighed(Limits { exit_grace: 5 * SECOND, terminate_grace: SECOND, ..LIMITS }, &[]);
    pool.close(0);
    pool.value(0, call, 10_000, 0).unwrap();
    assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
    let (shows, mut told) = (Observation { memory: Some(101), ..Observation::default() }, false);
    while let Some(now) = pool.next_tick().filter(|at| *at <= 3 * EVERY && !told) {
        pool.tick(now);
        while let Some(effect) = pool.effect() {
            match effect {
                Effect::Look { .. } => pool.seen(0, 1, Observation { claimed: call.number, ..shows }, now),
                Effect::Outgrown { limit, used, .. } => told = (limit, used) == (100, 101),
                Effect::Kill { .. } => assert!(told, "it is killed in silence"),
                _ => {}
            }
        }
    }
    assert!(told, "it lives");
}

#[test]
fn what_was_shared_before_a_call_is_nothing_against_it() {
    let (grace, call_since) = (LIMITS.grace, 10 * SECOND);
    // Its worker may have more, from a call without a limit.
    for (at, condemned) in [(call_since - 1, false), (call_since + grace - 1, false), (call_since + grace, true)] {
        let (mut pool, first) = weighed(LIMITS, &[Policy::NONE]);
        pool.value(0, first, 10_000, call_since).unwrap();
        pool.add(Calls { policy: SMALL, ..work(1, 1) }, call_since).unwrap();
        let (_, calls) = sent(&mut pool).remove(0);
        assert_eq!(pool.seats[0].worker.front.since, call_since);
        let observed = Observation { claimed: calls[0].number, memory: Some(1), ..Observation::default() };
        let shows = |now| Observation { whole: Some((at, 101)).filter(|(at, _)| *at <= now), ..observed };
        assert_eq!(lies(&mut pool, 0, shows, 60 * SECOND).is_some(), condemned, "{at}");
    }
    // More than any may use, at any time but before the first one.
    for (at, dies) in [(SECOND - 1, false), (SECOND, true)] {
        let mut pool = made(1, Limits { weigh_every: EVERY, ..LIMITS });
        pool.next_start(0, 0);
        pool.ready(0, 1, SECOND);
        pool.add(Calls { policy: SMALL, ..work(0, 1) }, SECOND).unwrap();
        let (_, calls) = sent(&mut pool).remove(0);
        let shows = |_| Observation { claimed: calls[0].number, whole: Some((at, 101)), ..Observation::default() };
        assert_eq!(lies(&mut pool, 0, shows, 2 * SECOND).is_some(), dies, "{at}");
    }
}

#[test]
fn a_worker_that_is_asked_to_end_is_weighed() {
    let (mut pool, call) = weighed(Limits { terminate_grace: 60 * SECOND, ..LIMITS }, &[]);
    pool.terminate();
    assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::AskToEnd { .. })));
    let shows = |memory| Observation { claimed: call.number, memory: Some(memory), ..Observation::default() };
    assert_eq!(time_killed(&mut pool, 1, shows(100), SECOND), None);
    let at = time_killed(&mut pool, 1, shows(101), 2 * SECOND).expect("it lives");
    assert!(at <= SECOND + 3 * EVERY, "{at}");
}

#[test]
fn a_sandbox_with_a_limit_of_memory_is_weighed_whatever_its_calls_may_use() {
    let most = 1 << 20;
    // The stack, and what is read-only, counts nowhere else.
    for (used, condemned) in [(most + (64 << 20), false), (most + (64 << 20) + 1, true)] {
        let mut pool = made(1, Limits { memory: most, weigh_every: EVERY, ..LIMITS });
        pool.next_start(0, 0);
        pool.ready(0, 1, 0);
        pool.add(work(0, 1), 0).unwrap();
        let (_, calls) = sent(&mut pool).remove(0);
        let shows = |_| Observation { claimed: calls[0].number, memory: Some(used), ..Observation::default() };
        assert_eq!(lies(&mut pool, 0, shows, SECOND).is_some(), condemned, "{used}");
        let excess = pool.seats[0].worker.condemned.map(|condemned| condemned.excess);
        assert_eq!(excess, condemned.then_some(Excess::Memory { limit: most, used }));
    }
}

#[test]
fn a_timeout_may_hold_until_the_worker_has_gone() {
    for (timeout, joins, gone) in [(u64::MAX, false, 60), (10 * SECOND, false, 12), (10 * SECOND, true, 12)] {
        let limits = Limits { exit_grace: 60 * SECOND, until_gone: true, ..LIMITS };
        let mut pool = made(1, limits);
        pool.next_start(0, 0);
        pool.ready(0, 1, 0);
        pool.add(Calls { policy: Policy { timeout, ..Policy::NONE }, ..work(0, 1) }, 0).unwrap();
        pool.close(0);
        let (_, calls) = sent(&mut pool).remove(0);
        pool.value(0, calls[0], 10_000, 0).unwrap();
        effects(&mut pool);
        let shows = Observation { claimed: calls[0].number, joins, ..Observation::default() };
        let at = time_killed(&mut pool, 1, shows, 600 * SECOND).expect("it lives");
        assert_eq!(at / SECOND, gone);
    }
}

#[test]
fn a_call_that_its_worker_does_not_start_goes_to_an_idle_one() {
    let (mut pool, seat, call) = limited(2, Policy::NONE);
    let shows = |_| Observation { claimed: call.number - 1, ..Observation::default() };
    let at = lies(&mut pool, seat, shows, SECOND).expect("it stays there");
    assert!(at < 100 * MILLISECOND);
    pool.taken_back(seat, 1, call.number - 1, at);
    let (other, calls) = sent(&mut pool).remove(0);
    assert!(other != seat && calls[0].job == 0);
    // Nobody is left to whom it could go: the silent one is asked last.
    let shows = |_| Observation { claimed: calls[0].number - 1, ..Observation::default() };
    assert_eq!(lies(&mut pool, other, shows, SECOND), None);
    pool.value(other, calls[0], 10_000, SECOND).unwrap();
    pool.add(work(1, 1), SECOND).unwrap();
    assert_eq!(sent(&mut pool).remove(0).0, other);
}

#[test]
fn a_call_that_nobody_starts_goes_to_one_other_worker_and_once_back() {
    let (mut pool, first, call) = limited(3, Policy::NONE);
    let (mut places, mut heard, mut now) = (vec![first], [0; 3], 0);
    let mut numbers = [0; 3];
    numbers[first] = call.number;
    while let Some(at) = pool.next_tick().filter(|at| *at < SECOND) {
        now = at;
        pool.tick(now);
        while let Some(effect) = pool.effect() {
            match effect {
                Effect::Look { seat, .. } => {
                    let claimed = numbers[seat].saturating_sub(1);
                    pool.seen(seat, 1, Observation { claimed, heard: heard[seat], ..Observation::default() }, now);
                }
                Effect::TakeBack { seat, .. } => {
                    heard[seat] += 1;
                    pool.taken_back(seat, 1, numbers[seat] - 1, now);
                }
                Effect::Send { seat, last, .. } => {
                    numbers[seat] = last;
                    places.push(seat);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(places.len() == 3 && places[0] == places[2] && places[0] != places[1], "{places:?}");
    let call = CallHeader { number: numbers[first], ..call };
    pool.value(first, call, 10_000, now).unwrap();
    assert_eq!(pool.counts().done, 1);
}

#[test]
fn a_worker_that_reads_nothing_is_not_sent_more_and_more() {
    let (mut pool, silent, other) = (pool(2), 0, 1);
    let (mut at, mut calls, mut killed) = (0, 0, None);
    while killed.is_none() {
        let until = at + 20 * SECOND;
        pool.add(work(calls, 2), at).unwrap();
        calls += 2;
        loop {
            while let Some(effect) = pool.effect() {
                match effect {
                    Effect::TakeBack { seat, .. } if seat == silent => pool.taken_back(seat, 1, 0, at),
                    Effect::Look { seat, .. } if seat == silent => pool.seen(seat, 1, Observation::default(), at),
                    Effect::Kill { seat, .. } if seat == silent => killed = Some(at),
                    Effect::Look { .. } | Effect::Send { .. } | Effect::Ended(_) => {}
                    effect => panic!("{effect:?}"),
                }
            }
            if pool.seats[other].is_busy() {
                let (first, count) = (pool.seats[other].in_flight[0].number, pool.seats[other].calls as u32);
                pool.report(other, 1, (first, count), None).unwrap();
                pool.progressed(other, 1, at);
                continue;
            }
            let unread = pool.seats[silent].unread.len();
            assert!(unread <= LIMITS.frames && calls < 1000, "{unread} frames for {calls} calls");
            let Some(tick) = pool.next_tick().filter(|tick| *tick <= until) else { break };
            at = at.max(tick);
            pool.tick(at);
        }
        assert_eq!(pool.counts().done, calls, "the other one runs them all");
        at = until;
    }
    assert!(killed.is_some_and(|at| at <= 60 * SECOND), "{killed:?}");
}

#[test]
fn large_arguments_are_read_before_they_are_missed() {
    const SIZE: usize = 100 << 20;
    for timeout in [u64::MAX, 60 * SECOND] {
        let mut pool = pool(64);
        let policy = Policy { timeout, ..Policy::NONE };
        pool.add(Calls { size: SIZE, policy, ..work(0, 1) }, 0).unwrap();
        let (seat, calls) = sent(&mut pool).remove(0);
        let shows = |_| Observation { claimed: calls[0].number - 1, ..Observation::default() };
        assert_eq!(lies(&mut pool, seat, shows, SECOND), None, "it still reads");
        let at = lies(&mut pool, seat, shows, 10 * SECOND).expect("it stays there");
        pool.taken_back(seat, 1, calls[0].number - 1, at);
        // Slow, and honest: it goes on reading.
        let silence = pool.seats[seat].worker.silence.expect("it has not started it");
        assert!(silence.until >= at + LIMITS.grace + SIZE as Time, "{silence:?}");
        // Each one that gets it has more time.
        assert_eq!(sent(&mut pool).remove(0).1[0].job, 0);
        let moved = pool.seats.iter().find_map(|seat| seat.in_flight.front()).expect("it is sent again");
        assert_eq!(moved.calls.moves, 1);
    }
}

#[test]
fn a_long_call_keeps_no_clock_busy() {
    for calls in [1, 3] {
        let mut pool = pool(4);
        pool.add(work(0, calls), 0).unwrap();
        let mut ticks = 0;
        while let Some(now) = pool.next_tick().filter(|now| *now < 3600 * SECOND) {
            pool.tick(now);
            ticks += 1;
            assert!(ticks < 10, "a tick at {now}");
            for effect in effects(&mut pool) {
                let Effect::Look { seat, .. } = effect else { continue };
                pool.seen(seat, 1, Observation { claimed: 1, ..Observation::default() }, now);
            }
        }
    }
}

#[test]
fn a_silent_worker_that_wakes_up_takes_over_from_one_that_stops() {
    for wakes_at in [0, 5 * SECOND] {
        let (mut pool, silent, call) = limited(2, Policy::NONE);
        let unstarted = |_| Observation { claimed: call.number - 1, ..Observation::default() };
        let at = lies(&mut pool, silent, unstarted, SECOND).expect("it stays there");
        pool.taken_back(silent, 1, call.number - 1, at);
        let (stops, calls) = sent(&mut pool).remove(0);
        pool.value(stops, calls[0], 10_000, at).unwrap();
        pool.add(work(1, 1), at).unwrap();
        assert_eq!(sent(&mut pool).remove(0).0, stops);
        let (mut looks, mut taken_back) = (0, None);
        while let Some(now) = pool.next_tick().filter(|now| *now < 60 * SECOND && taken_back.is_none()) {
            pool.tick(now);
            while let Some(effect) = pool.effect() {
                match effect {
                    Effect::Look { seat, .. } if seat == silent => {
                        let heard = u32::from(now >= wakes_at);
                        pool.seen(seat, 1, Observation { heard, ..unstarted(now) }, now);
                    }
                    Effect::Look { seat, .. } => {
                        let claimed = calls[0].number;
                        pool.seen(seat, 1, Observation { claimed, ..Observation::default() }, now);
                    }
                    Effect::TakeBack { seat, .. } if seat == stops => taken_back = Some(now),
                    other => panic!("{other:?}"),
                }
                looks += 1;
            }
        }
        let at = taken_back.expect("the call stays with a worker that has stopped");
        assert!(at < wakes_at + SECOND && looks < 100, "{at}, after {looks} looks");
    }
}

#[test]
fn a_silent_worker_that_may_run_what_was_taken_from_it_is_killed() {
    for answers in [false, true] {
        let (mut pool, seat, call) = limited(2, Policy { timeout: 60 * SECOND, ..Policy::NONE });
        let shows = |_| Observation { claimed: call.number - 1, ..Observation::default() };
        let at = lies(&mut pool, seat, shows, SECOND).expect("it stays there");
        pool.taken_back(seat, 1, call.number - 1, at);
        let (other, calls) = sent(&mut pool).remove(0);
        pool.value(other, calls[0], 10_000, at).unwrap();
        effects(&mut pool);
        let mut killed = false;
        while let Some(now) = pool.next_tick().filter(|now| *now < 10 * SECOND) {
            pool.tick(now);
            while let Some(effect) = pool.effect() {
                let heard = u32::from(answers);
                match effect {
                    Effect::Look { seat: at, .. } if at == seat => {
                        pool.seen(seat, 1, Observation { heard, ..shows(now) }, now);
                    }
                    Effect::TakeBack { seat: at, .. } if at == seat => {
                        pool.taken_back(seat, 1, call.number - 1, now);
                    }
                    Effect::Kill { seat: at, .. } if at == seat => killed = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(killed, !answers);
    }
}

#[test]
fn a_worker_that_cannot_be_killed_holds_nobody_up() {
    for retries in [0, 1] {
        let (mut pool, seat, call) = limited(1, Policy { timeout: SECOND, retries, ..Policy::NONE });
        let shows = |_| Observation { claimed: call.number, started: Some(0), ..Observation::default() };
        let at = lies(&mut pool, seat, shows, 60 * SECOND).expect("it is never condemned");
        pool.taken_back(seat, 1, call.number, at);
        assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })));
        let lives = Arc::new(Loss { lives: true, ..(*loss()).clone() });
        pool.overdue(seat, 1, &lives, at);
        let told = finished(&mut pool);
        assert_eq!(told.len(), usize::from(retries == 0), "what may be retried waits for the death");
        // In vain: then there is no other attempt.
        pool.lost(seat, 1, &lives, call.number, at);
        assert_eq!(told.len() + finished(&mut pool).len(), 1);
        assert_eq!(pool.counts(), PoolStats { failed: 1, timeouts: 1, ..PoolStats::default() });
        assert!(matches!(pool.next_start(seat, at + LONGEST_BACK_OFF), Start::Now { .. }));
    }
}

#[test]
fn a_limit_of_memory_that_cannot_be_seen_keeps_no_clock_busy() {
    let mut pool = made(1, Limits { weigh_every: 10 * MILLISECOND, ..LIMITS });
    pool.next_start(0, 0);
    pool.ready(0, 1, 0);
    let policy = Policy { memory: 1 << 20, ..Policy::NONE };
    pool.add(Calls { policy, ..work(0, 1) }, 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    let mut looks = 0;
    for _ in 0..100 {
        let Some(at) = pool.next_tick().filter(|at| *at < 1000 * MILLISECOND) else { break };
        pool.tick(at);
        for effect in effects(&mut pool) {
            assert!(matches!(effect, Effect::Look { memory: true, .. }), "{effect:?}");
            looks += 1;
            pool.seen(0, 1, Observation { claimed: calls[0].number, ..Observation::default() }, at);
        }
    }
    assert!((90..=100).contains(&looks), "{looks} looks in a second");
}

/// Who had a call for a moment only is no suspect, however often that is repeated.
#[test]
fn calls_that_are_cancelled_at_once_harm_no_worker() {
    for reach in [Reach::Waiting, Reach::Running] {
        let (mut pool, mut at, mut heard) = (pool(1), 0, 0);
        for job in 0..50 {
            let ticket = pool.add(work(job, 1), at).unwrap();
            assert!(matches!(pool.effect(), Some(Effect::Send { .. })));
            at += 30_000;
            pool.cancel(&[ticket], reach, at);
            for effect in effects(&mut pool) {
                match effect {
                    Effect::TakeBack { seat, .. } => {
                        pool.taken_back(seat, 1, 0, at);
                        heard += 1;
                    }
                    effect => panic!("{effect:?}"),
                }
            }
            let until = at + SECOND;
            while let Some(now) = pool.next_tick().filter(|now| *now <= until) {
                pool.tick(now);
                for effect in effects(&mut pool) {
                    match effect {
                        Effect::Look { seat, .. } => {
                            pool.seen(seat, 1, Observation { heard, ..Observation::default() }, now)
                        }
                        Effect::Ended(_) => {}
                        effect => panic!("{effect:?}"),
                    }
                }
            }
            effects(&mut pool).iter().for_each(|effect| assert!(matches!(effect, Effect::Ended(_)), "{effect:?}"));
            at = until;
        }
    }
}

/// Where no worker gets a processor for long, a call waits, and its workers are replaced ever more seldom.
#[test]
fn a_call_without_limits_outlives_a_machine_that_is_too_slow() {
    let (mut pool, mut replaced) = (pool(4), 0);
    let mut epochs = [1; 4];
    pool.add(work(0, 1), 0).unwrap();
    let mut at = 0;
    while at < 1000 * SECOND {
        while let Some(effect) = pool.effect() {
            match effect {
                Effect::Send { .. } => {}
                Effect::Look { seat, epoch, .. } => pool.seen(seat, epoch, Observation::default(), at),
                Effect::TakeBack { seat, epoch, .. } => pool.taken_back(seat, epoch, 0, at),
                Effect::Kill { seat, epoch } => {
                    replaced += 1;
                    pool.lost(seat, epoch, &killed(), 0, at);
                    let Start::Now { epoch } = pool.next_start(seat, at + LONGEST_BACK_OFF) else { panic!("no start") };
                    epochs[seat] = epoch;
                    pool.ready(seat, epoch, at);
                }
                Effect::Departed { .. } => {}
                effect => panic!("{effect:?}"),
            }
        }
        let Some(tick) = pool.next_tick() else { break };
        at = at.max(tick);
        pool.tick(at);
    }
    assert_eq!(pool.counts(), PoolStats { running: 1, restarts: replaced, ..PoolStats::default() });
    assert!(replaced < 10, "{replaced} workers in a quarter of an hour");
    // Once there is time, it runs.
    let seat = (0..4).find(|seat| pool.seats[*seat].is_busy()).expect("it is somewhere");
    let number = pool.seats[seat].in_flight[0].number;
    pool.report(seat, epochs[seat], (number, 1), None).unwrap();
    assert_eq!(pool.counts().done, 1);
}
