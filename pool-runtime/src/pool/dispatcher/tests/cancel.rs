//! Calls that are cancelled, and calls that are taken back.

use super::*;

#[test]
fn cancelling_a_running_call_kills_its_worker_and_spares_the_others() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let tickets: Vec<_> = (0..3).map(|job| pool.add(work(job, 1), 0).unwrap()).collect();
    let calls: Vec<_> = sent(&mut pool).into_iter().flat_map(|(_, calls)| calls).collect();
    assert!(pool.cancel(&tickets[..1], Reach::Running, 0));
    assert!(!pool.cancel(&tickets[..1], Reach::Running, 0), "there is nothing left to cancel");
    let effects = effects(&mut pool);
    assert!(
        matches!(effects[..], [Effect::TakeBack { seat: 0, epoch: 1, generation: 0 }]),
        "first nothing more may start"
    );
    pool.taken_back(0, 1, calls[0].number, 0);
    assert!(matches!(pool.effect(), Some(Effect::Hold { seat: 0, epoch: 1, .. })), "it may still run");
    let failure = failure(pool.effect()).expect("not cancelled");
    assert!(matches!(failure, CallFailure { why: Why::Cancelled, ran: Ran::Maybe, .. }));
    assert!(matches!(pool.effect(), Some(Effect::Kill { seat: 0, epoch: 1 })));
    assert_eq!(pool.counts().waiting, 2);
    pool.value(0, calls[0], 0, 0).expect("it may have been through by then");
    pool.lost(0, 1, &loss(), calls[0].number, 0);
    assert_eq!(finished(&mut pool), []);
    assert_eq!(pool.counts().waiting, 2);
}

/// What becomes of a pool until this time, if each page shows the same all the time.
fn kills(pool: &mut Simple, claimed: u32, until: Time) -> Option<Time> {
    let mut now = pool.next_tick().unwrap_or(NEVER);
    loop {
        while let Some(effect) = pool.effect() {
            match effect {
                Effect::Look { seat, epoch, .. } => {
                    pool.seen(seat, epoch, Observation { claimed, ..Observation::default() }, now);
                }
                Effect::TakeBack { seat, epoch, .. } => pool.taken_back(seat, epoch, claimed, now),
                Effect::Kill { .. } => return Some(now),
                _ => {}
            }
        }
        now = pool.next_tick().filter(|at| *at <= until)?;
        pool.tick(now);
    }
}

/// Three calls, submitted one by one, that were sent to the only worker together.
fn three_sent() -> (Simple, Vec<Ticket>, Vec<CallHeader>) {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let tickets: Vec<_> = (0..4).map(|job| pool.add(work(job, 1), 0).unwrap()).collect();
    let (_, first) = sent(&mut pool).remove(0);
    pool.value(0, first[0], 10_000, 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 3);
    (pool, tickets[1..].to_vec(), calls)
}

#[test]
fn a_page_that_is_ahead_does_not_keep_a_cancelled_call_running() {
    // A number that was not sent is a fault, and one behind which all else stays unreported shows in time.
    for (lie, latest) in [(4, NEVER), (1000, NEVER), (1, LIMITS.grace), (2, LIMITS.grace)] {
        let (mut pool, tickets, calls) = three_sent();
        assert!(pool.cancel(&tickets[..1], Reach::Running, 0));
        let Some(Effect::TakeBack { seat, epoch, .. }) = pool.effect() else { panic!("nothing taken back") };
        let shows = calls[0].number + lie;
        pool.taken_back(seat, epoch, shows, 0);
        let at = kills(&mut pool, shows, 10 * SECOND).unwrap_or_else(|| panic!("{lie}: it runs for ever"));
        // NEVER: before the first tick.
        assert_eq!(at, latest, "{lie}");
        pool.lost(seat, epoch, &killed(), shows, LIMITS.grace);
        let ends = effects(&mut pool).into_iter().filter_map(|effect| failure(Some(effect)));
        assert_eq!(ends.filter(|end| matches!(end.why, Why::Cancelled)).count(), 1, "{lie}");
    }
}

#[test]
fn a_report_that_comes_late_keeps_a_cancelled_call_from_killing_its_worker() {
    let (mut pool, tickets, calls) = three_sent();
    assert!(pool.cancel(&tickets[..1], Reach::Running, 0));
    pool.taken_back(0, 1, calls[1].number, 0);
    pool.value(0, calls[0], 10_000, LIMITS.grace / 2).unwrap();
    assert_eq!(kills(&mut pool, calls[1].number, 10 * SECOND), None);
}

#[test]
fn cancelling_what_has_not_started_kills_nobody() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let tickets = [pool.add(work(0, 2), 0).unwrap(), pool.add(work(2, 1), 0).unwrap()];
    let (_, calls) = sent(&mut pool).remove(0);
    pool.value(0, calls[0], 10_000, 0).unwrap();
    let (_, behind) = sent(&mut pool).remove(0);
    effects(&mut pool);
    assert!(pool.cancel(&tickets[1..2], Reach::Running, 0));
    effects(&mut pool);
    pool.taken_back(0, 1, calls[1].number, 0);
    let failure = failure(pool.effect()).expect("not cancelled");
    assert!(matches!(failure, CallFailure { why: Why::Cancelled, ran: Ran::No, .. }));
    assert!(!effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { .. })));
    pool.value(0, calls[1], 10_000, 0).unwrap();
    assert_eq!(finished(&mut pool), [(1, true)]);
    assert!(pool.value(0, behind[0], 10_000, 0).is_err(), "it has been taken back");
}

#[test]
fn a_call_that_has_reported_is_not_hit_by_the_end_of_the_next() {
    let (mut pool, tickets, calls) = three_sent();
    assert!(pool.cancel(&tickets[1..2], Reach::Running, 0));
    pool.taken_back(0, 1, calls[1].number, 0);
    effects(&mut pool);
    // The report of the one before was on its way when the worker was killed.
    pool.value(0, calls[0], 10_000, 0).unwrap();
    assert_eq!(finished(&mut pool), [(1, true)]);
    pool.lost(0, 1, &loss(), calls[1].number, 0);
    assert_eq!(finished(&mut pool), []);
    assert_eq!(pool.counts().waiting, 1);
}

#[test]
fn calls_behind_one_whose_worker_leaves_go_elsewhere_at_once() {
    for tells_first in [true, false] {
        let (mut pool, _, calls) = three_sent();
        let message = PanicInfo::from_message("its state is lost".into());
        let failure = crate::protocol::Failure::Panicked(message);
        let failed = Failed { stage: Stage::Running, leaving: true, failure };
        pool.report(0, 1, (calls[0].number, 1), Some(failed)).unwrap();
        pool.progressed(0, 1, 0);
        let asked = effects(&mut pool).iter().any(|effect| matches!(effect, Effect::TakeBack { seat: 0, .. }));
        assert!(asked, "they wait until it is gone");
        if tells_first {
            pool.taken_back(0, 1, calls[0].number, 0);
            assert_eq!(pool.counts().waiting, 2);
        }
        pool.lost(0, 1, &loss(), calls[0].number, 0);
        assert_eq!(pool.counts().waiting, 2);
        assert_eq!(pool.queue.front().map(|range| range.deaths), Some(0), "it is not to blame");
    }
    // One that goes on all the same.
    let (mut pool, _, calls) = three_sent();
    let failure = crate::protocol::Failure::Decode("no".into());
    let failed = Failed { stage: Stage::Decoding, leaving: true, failure };
    pool.report(0, 1, (calls[0].number, 1), Some(failed)).unwrap();
    pool.progressed(0, 1, 0);
    pool.taken_back(0, 1, calls[1].number, 0);
    assert!(effects(&mut pool).iter().any(|effect| matches!(effect, Effect::Kill { seat: 0, .. })));
}

#[test]
fn cancelling_what_waits_spares_what_runs() {
    let mut pool = pool(1);
    warm_up(&mut pool, 10_000);
    let ticket = pool.add(work(0, 5), 0).unwrap();
    let (_, calls) = sent(&mut pool).remove(0);
    assert_eq!(calls.len(), 5);
    let question = pool.withdraw(&[ticket], 0);
    assert_eq!(pool.was_withdrawn(question), None, "the worker has not answered");
    let taken_back = effects(&mut pool);
    assert!(matches!(taken_back[..], [Effect::TakeBack { seat: 0, .. }]));
    pool.taken_back(0, 1, calls[1].number, 0);
    assert_eq!(pool.was_withdrawn(question), Some(true));
    assert_eq!(finished(&mut pool), [(2, false), (3, false), (4, false)]);
    assert!(!pool.cancel(&[ticket], Reach::Waiting, 0) || effects(&mut pool).len() == 1, "nothing else is hit");
    pool.taken_back(0, 1, calls[1].number, 0);
    for call in &calls[..2] {
        pool.value(0, *call, 1, 0).unwrap();
    }
    assert_eq!(finished(&mut pool), [(0, true), (1, true)]);
}
