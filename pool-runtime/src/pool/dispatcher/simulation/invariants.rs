//! The invariants that are checked in a simulated world.

use crate::pool::dispatcher::simulation::*;

impl World {
    pub(super) fn check(&self) {
        let pool = &self.pool;
        let known = pool.queue.len() + pool.in_flight_calls;
        assert_eq!(known as u64 + self.ended, self.jobs.len() as u64, "a call is lost");
        let anyone = || pool.idle.iter().any(|seat| pool.seats[*seat].has_room(&pool.limits));
        assert!(pool.queue.ready() == 0 || !anyone(), "a call waits while a worker is idle");
        if let Some(seat) = self.touched {
            self.check_seat(seat);
        }
        if self.events.is_multiple_of(self.shape.check_every) {
            self.check_all();
        }
    }

    pub(super) fn check_all(&self) {
        let pool = &self.pool;
        pool.queue.check();
        let in_flight: usize = pool.seats.iter().map(|seat| seat.calls).sum();
        assert_eq!(in_flight, pool.in_flight_calls);
        assert_eq!(pool.ready_seats, pool.seats.iter().filter(|seat| seat.phase() == Phase::Ready).count());
        for seat in 0..pool.seats.len() {
            self.check_seat(seat);
        }
        let idle: HashSet<_> = pool.idle.iter().collect();
        assert_eq!(idle.len(), pool.idle.len(), "a seat is idle twice");
        assert!(pool.idle.iter().all(|seat| pool.seats[*seat].phase() == Phase::Ready));
        assert!(pool.idle.iter().all(|seat| pool.seats[*seat].in_flight.is_empty()), "a busy seat is idle");
    }

    /// A limit of time holds by the dispatcher's own clock.
    fn check_front(&self, at: usize) {
        let seat = &self.pool.seats[at];
        let Some(front) = seat.in_flight.front().filter(|_| seat.phase() == Phase::Ready) else { return };
        let (epoch, number, since) = self.fronts[at];
        let policy = front.calls.work.policy();
        // The clock may be late, and so may be the answer once calls are being taken back.
        let late = self.pool.next_tick().is_some_and(|tick| tick <= self.now);
        if policy.timeout == u64::MAX || (epoch, number) != (seat.epoch(), front.number) || late || seat.recalling {
            return;
        }
        let until = since + policy.timeout + GRACE + seat.time_to_read() + MILLISECOND;
        assert!(self.now <= until, "{number} stays at the front of seat {at}: {} > {until}", self.now);
    }

    /// What lies runs in two places at most, not counting those that are being ended or replaced.
    pub(super) fn check_places(&self, at: usize) {
        let running = |process: &Process| Some(process.running.as_ref().filter(|_| !process.dead)?.call.job);
        let Some(job) = self.processes[at].as_ref().and_then(running) else { return };
        if self.jobs[job as usize].liar {
            let stays = |seat: &Seat<Calls>| {
                seat.phase() == Phase::Ready
                    && !seat.worker.retiring
                    && seat.worker.given < self.pool.limits.tasks_per_child
            };
            let seats = self.processes.iter().zip(&self.pool.seats).filter(|(_, seat)| stays(seat));
            let places = seats.filter(|(process, _)| process.as_ref().and_then(running) == Some(job)).count();
            assert!(places <= 2, "job {job} runs in {places} places");
        }
    }

    /// A worker that says that it is idle, and runs what has ended as it took too long, is ended with it.
    fn check_idle(&self, at: usize) {
        let (seat, process) = (&self.pool.seats[at], self.processes[at].as_ref());
        let running = process.filter(|process| !process.dead).and_then(|process| process.running.as_ref());
        let idle = seat.phase() == Phase::Ready && !seat.is_busy() && !seat.is_silent() && !seat.recalling;
        let Some(running) = running.filter(|_| idle) else { return };
        assert!(!self.jobs[running.call.job as usize].late, "{:?} runs on at seat {at}, which is idle", running.call);
    }

    fn check_seat(&self, seat: usize) {
        self.check_front(seat);
        self.check_idle(seat);
        let (seat, limits) = (&self.pool.seats[seat], &self.pool.limits);
        assert_eq!(seat.calls, seat.in_flight.iter().map(|flight| flight.len() as usize).sum::<usize>());
        assert!(seat.in_flight.iter().all(|flight| flight.len() > 0));
        // A worker without calls gets one, whatever it has not read.
        assert!(seat.unread.len() <= limits.frames + 1 && seat.calls <= limits.calls);
        let unread: usize = seat.unread.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(seat.unread_bytes, unread);
        // A worker without calls gets one, however large; frames of calls taken back may still lie before it.
        assert!(unread <= limits.unhindered || seat.unread.len() <= 2 || seat.calls <= 1, "{unread} bytes");
        assert_eq!(seat.ahead, seat.in_flight.iter().map(Flight::ahead).sum::<Time>());
        let next = seat.in_flight.iter().skip(1);
        assert!(seat.in_flight.iter().zip(next).all(|(a, b)| is_after(b.number, a.last_number())));
    }
}
