//! The events of a simulated world, and what the dispatcher's effects do there.

use crate::pool::dispatcher::simulation::*;
use crate::protocol;

impl World {
    // ---- effects ----

    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.pool.effect() {
            match effect {
                Effect::Ended(Ended { how: How::Failed(failure), work, first, .. }) => {
                    self.end(work.first_job + u64::from(first), Some(&failure));
                }
                Effect::Ended(_) => {
                    for (job, _) in ends(&effect) {
                        self.end(job, None);
                    }
                }
                Effect::Hold { .. } | Effect::StartsFailed { .. } => {}
                // These only say what has happened.
                Effect::Exceeded { .. } | Effect::Retried { .. } | Effect::Retired { .. } | Effect::Departed { .. } => {
                }
                Effect::Send { seat, epoch, generation, first, last } => {
                    assert!(!self.pool.seats[seat].worker.retiring, "a worker that is worn is given more");
                    let calls = headers(self.pool.flights(seat, first, last));
                    assert_eq!(calls.len() as u32, last.wrapping_sub(first).wrapping_add(1));
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        let lies = |call: &Running| matches!(call.fate, Fate::Lies(Lie::FarAhead | Lie::Beyond));
                        if process.running.as_ref().is_some_and(lies) {
                            calls.iter().for_each(|call| self.jobs[call.job as usize].slandered = true);
                        }
                        process.inbox.extend(calls.into_iter().map(|call| (generation, call)));
                        self.activate(seat);
                    }
                    self.note_front(seat);
                }
                Effect::TakeBack { seat, epoch, generation } => {
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        assert_eq!(process.generation, generation);
                        process.generation += 1;
                        let claimed = process.shows();
                        self.news.push(News::TakenBack { seat, epoch, claimed });
                    }
                }
                Effect::Look { seat, epoch, memory } => {
                    if let Some(process) = self.processes[seat].as_ref().filter(|process| process.epoch == epoch) {
                        let started = process.running.as_ref().map(|running| match running.fate {
                            Fate::Lies(Lie::JustNow) => self.now,
                            _ => running.since,
                        });
                        let seen = Observation {
                            claimed: process.shows(),
                            started,
                            heard: process.acknowledges(),
                            extended: None,
                            // A measurement may fail.
                            joins: process.stopping.is_some() && process.joins_until > self.now,
                            memory: (memory && !self.random.one_in(5)).then(|| process.memory()),
                            whole: None,
                        };
                        self.news.push(News::Seen { seat, epoch, seen });
                    }
                }
                Effect::Stop { seat, epoch } => {
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        process.stopping = Some(self.now);
                        process.lingers = self.random.one_in(10);
                        if self.random.one_in(10) {
                            process.joins_until = self.now + self.random.next() % (5 * EXIT_GRACE);
                        }
                        self.activate(seat);
                    }
                }
                Effect::Kill { seat, epoch } => {
                    let process = self.processes[seat].as_ref().filter(|process| process.epoch == epoch);
                    if let Some(asked) = process.and_then(|process| process.asked) {
                        let late = asked + self.pool.limits.terminate_grace <= self.now;
                        let large = process.is_some_and(|process| process.memory() > 100);
                        assert!(late || large, "it had no time to end");
                    }
                    self.kill(seat, epoch);
                }
                Effect::AskToEnd { seat, epoch, generation } => {
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        // A take-back may be under way.
                        process.generation = process.generation.max(generation + 1);
                        process.asked = Some(self.now);
                        self.has_cause_to_kill(seat);
                        // It may obey at once, later, or never.
                        if self.random.one_in(3) {
                            self.kill(seat, epoch);
                        }
                    }
                }
                Effect::Outgrown { used, limit, .. } => assert!(used > limit),
                Effect::Overstayed { seat, epoch } => {
                    if let Some(process) = self.processes[seat].as_mut().filter(|process| process.epoch == epoch) {
                        let since = process.stopping.expect("it was told to leave");
                        assert!(since + EXIT_GRACE <= self.now, "a worker has had no time to leave");
                        assert!(process.joins_until <= self.now, "a worker that joins is killed");
                    }
                }
            }
        }
    }

    fn kill(&mut self, seat: usize, epoch: u32) {
        let Some(process) = self.processes[seat].as_ref().filter(|process| process.epoch == epoch) else { return };
        if process.asked.is_none() {
            self.has_cause_to_kill(seat);
        }
        let Some(process) = &mut self.processes[seat] else { return };
        process.dead = true;
        self.activate(seat);
    }

    fn has_cause_to_kill(&self, seat: usize) {
        let Some(process) = &self.processes[seat] else { return };
        if let Some(running) = process.running.as_ref().filter(|_| !self.terminated && !process.dead) {
            let fact = &self.jobs[running.call.job as usize];
            let policy = &self.policies[usize::from(fact.policy)];
            let late = self.now.saturating_sub(running.since) >= policy.timeout;
            let large = running.fate == Fate::Grows && policy.memory != u64::MAX;
            // Of the call at the front, whose report may be on its way while the worker runs another one.
            let (_, _, since) = self.fronts[seat];
            let timeout =
                self.pool.seats[seat].in_flight.front().map_or(NEVER, |front| front.calls.work.policy().timeout);
            let too_long = self.now.saturating_sub(since) >= timeout.saturating_add(GRACE);
            let guilty = fact.given_up || late || large || too_long || fact.liar || fact.slandered;
            assert!(guilty, "{:?} is killed for nothing: {fact:?}", running.call);
        }
    }

    fn end(&mut self, job: u64, failure: Option<&CallFailure>) {
        let fact = &mut self.jobs[job as usize];
        assert!(!std::mem::replace(&mut fact.ended, true), "job {job} ended twice");
        self.ended += 1;
        let policy = &self.policies[usize::from(fact.policy)];
        let Some(failure) = failure else {
            assert!(fact.starts > 0, "job {job} has a value and never ran");
            self.values += 1;
            return;
        };
        let CallFailure { why, ran, attempts } = failure;
        fact.withdrawn = matches!(why, Why::Cancelled);
        if fact.liar || fact.slandered {
            fact.late = matches!(why, Why::Lost { condemned: Some(Excess::Time { .. }), .. });
            return;
        }
        let unstarted = attempts.saturating_sub(fact.starts);
        // Attempts that never started may have stayed too long.
        assert!(
            unstarted <= 1 || policy.timeout != u64::MAX && *attempts <= policy.retries + 1,
            "{failure:?}: {fact:?}"
        );
        assert!(*attempts >= fact.starts.max(1), "{failure:?}: {fact:?}");
        match why {
            Why::Cancelled if fact.cancelled && !fact.given_up => {
                assert!(!fact.running, "{failure:?}: {fact:?} runs, and was to go on");
            }
            Why::Lost { condemned: Some(Excess::Time { .. }), .. } => {
                let all = *attempts == policy.retries + 1;
                assert!(policy.timeout != u64::MAX && all, "{failure:?}: {fact:?}");
            }
            Why::Lost { condemned: Some(Excess::Memory { .. }), .. } => {
                assert!(policy.memory != u64::MAX, "{failure:?}: {fact:?}");
            }
            Why::Lost { .. } if *ran == Ran::Yes => {
                assert_eq!(*attempts, policy.retries + 1, "{failure:?}: {fact:?}")
            }
            Why::Cancelled | Why::Terminated => assert!(fact.cancelled || self.terminated, "{failure:?}: {fact:?}"),
            Why::Lost { .. } | Why::Reported(_) | Why::PoolFailed => {}
        }
        match ran {
            Ran::No => assert!(!fact.ran, "{failure:?}: it ran"),
            Ran::Yes => assert!(fact.ran, "{failure:?}: it did not run"),
            Ran::Maybe => {}
        }
    }

    /// Keeps its own account of what is at the front of a seat, and since when.
    fn note_front(&mut self, seat: usize) {
        let state = &self.pool.seats[seat];
        let Some(front) = state.in_flight.front() else { return };
        let (epoch, number, _) = self.fronts[seat];
        if (epoch, number) != (state.epoch(), front.number) {
            self.fronts[seat] = (state.epoch(), front.number, self.now);
        }
    }

    // ---- events ----

    /// One random event.
    pub(super) fn step(&mut self) {
        self.events += 1;
        self.now += self.random.next() % self.shape.pause;
        self.touched = None;
        let seat = match self.active.len() {
            0 => self.random.below(self.processes.len()),
            active => self.active[self.random.below(active)],
        };
        match self.random.below(20) {
            0 | 1 => self.submit(),
            2 if self.random.one_in(4) && !(self.closed && self.patient) => self.cancel(),
            // A clock may be late; it is never early.
            3 if self.random.one_in(self.shape.late) && self.pool.next_tick().is_some_and(|at| at <= self.now) => {
                self.catch_up();
                self.pool.tick(self.now);
            }
            3 => {}
            4 | 5 => self.tell_news(),
            6 | 7 => self.start(),
            8..=14 => {
                self.work(seat);
                self.check_places(seat);
            }
            15..=17 => self.deliver(seat),
            18 => self.notice_death(seat),
            // Once the pool is closed, only the pool kills.
            _ if !self.closed && self.random.one_in(self.deaths) => {
                // Killed from outside, at any moment.
                let seat = self.random.below(self.processes.len());
                if let Some(process) = &mut self.processes[seat] {
                    process.dead = true;
                    self.activate(seat);
                }
            }
            _ => {}
        }
        self.carry_out();
        self.ask();
        self.check();
    }

    fn submit(&mut self) {
        let full = self.pool.queue.ready() > self.backlog * self.shape.seats;
        if self.closed || full || self.jobs.len() as u64 >= self.shape.calls {
            return;
        }
        let most = (4 * self.shape.seats).clamp(30, 4000);
        let most = if self.random.one_in(3) { most } else { 3 };
        let calls = 1 + self.random.below(most) as u32;
        let policy = self.random.below(self.policies.len()) as u8;
        let first_job = self.jobs.len() as u64;
        let work = Calls { first_job, calls, size: 1, policy: self.policies[usize::from(policy)] };
        self.jobs.extend((0..calls).map(|_| Fact { policy, ..Fact::default() }));
        match self.pool.submit(Arc::new(work), calls, self.now) {
            Ok(ticket) => self.tickets.push((ticket, first_job, calls)),
            Err(_) => (first_job..first_job + u64::from(calls)).for_each(|job| self.refused(job)),
        }
    }

    /// The pool refused the work.
    fn refused(&mut self, job: u64) {
        let failure = CallFailure { why: Why::Terminated, ran: Ran::No, attempts: 1 };
        assert!(self.terminated || self.closed, "work is refused for nothing");
        self.end(job, Some(&failure));
    }

    fn cancel(&mut self) {
        // Most submissions are to run.
        if 3 * self.cancels >= self.tickets.len() {
            return;
        }
        self.cancels += 1;
        // New and old ones alike.
        let count = self.tickets.len();
        let latest = count.saturating_sub(1 + self.random.below(20));
        let index = if self.random.one_in(2) { latest } else { self.random.below(count) };
        // Delayed calls are rare, so they are preferred at times.
        let delayed = self.pool.queue.next_delayed().filter(|_| self.random.one_in(3));
        let index =
            delayed.and_then(|ticket| self.tickets.iter().position(|(other, ..)| *other == ticket)).unwrap_or(index);
        let Some((ticket, first, calls)) = self.tickets.get(index).copied() else { return };
        let running = self.random.one_in(2);
        let jobs = first..first + u64::from(calls);
        for fact in &mut self.jobs[jobs.start as usize..jobs.end as usize] {
            fact.cancelled = true;
            fact.given_up |= running;
            fact.barred |= running;
        }
        // What a worker was sent and has not started is taken back before it can start. To look at all takes long.
        for process in self.processes.iter().take(1000).flatten() {
            let unstarted = process.inbox.iter().filter(|(generation, _)| *generation == process.generation);
            for (_, call) in unstarted.filter(|(_, call)| jobs.contains(&call.job)) {
                self.jobs[call.job as usize].barred = true;
            }
        }
        if running {
            self.pool.cancel(&[ticket], Reach::Running, self.now);
        } else if self.random.one_in(2) {
            self.pool.cancel(&[ticket], Reach::Waiting, self.now);
        } else {
            let number = self.pool.withdraw(&[ticket], self.now);
            self.questions.push(Question { number, first_job: first, calls });
        }
    }

    /// Users ask whether they have cancelled anything.
    pub(super) fn ask(&mut self) {
        let Self { pool, questions, jobs, .. } = self;
        questions.retain(|question| {
            let Some(any) = pool.was_withdrawn(question.number) else { return true };
            let calls = &jobs[question.first_job as usize..][..question.calls as usize];
            assert!(!any || calls.iter().any(|fact| fact.withdrawn), "a user is told of calls that were not cancelled");
            false
        });
    }

    fn tell_news(&mut self) {
        if self.news.is_empty() {
            return;
        }
        let index = self.random.below(self.news.len());
        match self.news.swap_remove(index) {
            News::TakenBack { seat, epoch, claimed } => self.pool.taken_back(seat, epoch, claimed, self.now),
            News::Seen { seat, epoch, seen } => self.pool.seen(seat, epoch, seen, self.now),
            News::Lost { seat, epoch, claimed } => self.pool.lost(seat, epoch, &tests::loss(), claimed, self.now),
        }
    }

    fn start(&mut self) {
        if self.empty.is_empty() {
            return;
        }
        let index = self.random.below(self.empty.len());
        let seat = self.empty[index];
        match self.pool.next_start(seat, self.now) {
            Start::Now { epoch } => {
                if self.random.one_in(20) {
                    self.pool.start_failed(seat, epoch, FailedStart { for_good: false, may_pass: false }, self.now);
                    // The pool must not give up.
                    self.pool.seats[seat].failures = 0;
                    return;
                }
                self.empty.swap_remove(index);
                self.processes[seat] = Some(Process { epoch, ..Process::default() });
                self.pool.ready(seat, epoch, self.now);
                self.activate(seat);
            }
            Start::NotBefore(_) => {}
            Start::Never => {
                self.empty.swap_remove(index);
            }
        }
    }

    fn work(&mut self, seat: usize) {
        let (now, random) = (self.now, &mut self.random);
        let Some(process) = self.processes[seat].as_mut().filter(|process| !process.dead) else { return };
        if let Some(running) = &process.running {
            if running.until > now {
                return;
            }
            let Some(Running { call, fate, since, .. }) = process.running.take() else { return };
            let fact = &mut self.jobs[call.job as usize];
            fact.running = false;
            if fate == Fate::Dies {
                process.dead = true;
                let stage = [Stage::Decoding, Stage::Running, Stage::Encoding][random.below(3)];
                fact.ran |= stage != Stage::Decoding;
                process.stage = Some(stage);
                return;
            }
            fact.ran |= fate != Fate::Unreadable;
            process.stage = (fate == Fate::Unreadable).then_some(Stage::Decoding);
            process.reports.push_back((call, (now - since).max(1000), fate));
        } else if let Some((generation, call)) = process.inbox.pop_front() {
            if generation != process.generation {
                process.heard = process.generation;
                return;
            }
            (process.claimed, process.stage) = (call.number, None);
            let fact = &mut self.jobs[call.job as usize];
            let policy = &self.policies[usize::from(fact.policy)];
            fact.starts += 1;
            let twice = std::mem::replace(&mut fact.running, true);
            if !fact.liar {
                assert!(!twice, "job {} runs twice at once", call.job);
                assert!(!fact.ended || fact.cancelled || self.terminated, "job {} starts after its end", call.job);
                // One that was said to have started was not taken back.
                let barred = fact.barred && !fact.slandered;
                assert!(!barred, "job {} starts after it was cancelled", call.job);
                assert!(fact.starts <= policy.retries + 1, "job {} runs too often", call.job);
                assert!(call.attempt >= fact.starts, "job {}", call.job);
            }
            // What has stayed too long without having started counts as an attempt.
            fact.starts = fact.starts.max(call.attempt);
            let fate = match random.below(self.troubles) {
                _ if policy.timeout != u64::MAX && random.one_in(self.lies) => {
                    Fate::Lies([Lie::NotStarted, Lie::FarAhead, Lie::Beyond, Lie::JustNow, Lie::Idle][random.below(5)])
                }
                _ if fact.liar && policy.timeout != u64::MAX => {
                    Fate::Lies([Lie::NotStarted, Lie::Idle][random.below(2)])
                }
                _ if random.one_in(self.deaths) => Fate::Dies,
                0 => Fate::Panics,
                5 => Fate::Unreadable,
                1 if policy.timeout != u64::MAX => Fate::Hangs,
                3 | 4 if policy.timeout != u64::MAX => Fate::ReturnsLate,
                2 if policy.memory != u64::MAX => Fate::Grows,
                _ => Fate::Returns,
            };
            let takes = if random.one_in(50) { 20 * MILLISECOND } else { random.next() % 30_000 };
            let until = match fate {
                Fate::Hangs | Fate::Grows | Fate::Lies(_) => NEVER,
                Fate::ReturnsLate => now + policy.timeout + random.next() % (2 * MILLISECOND),
                _ => now + takes,
            };
            fact.liar |= matches!(fate, Fate::Lies(_));
            if matches!(fate, Fate::Lies(Lie::FarAhead | Lie::Beyond)) {
                for (_, call) in &process.inbox {
                    self.jobs[call.job as usize].slandered = true;
                }
            }
            process.running = Some(Running { call, fate, since: now, until });
        } else if process.stopping.is_some() && process.reports.is_empty() {
            process.dead = process.joins_until <= now && !process.lingers;
        }
    }

    /// Before the clock ticks, what has been reported is read. Only for those where that matters: to look at all of
    /// them takes long.
    fn catch_up(&mut self) {
        for seat in 0..self.processes.len() {
            let state = &self.pool.seats[seat];
            if state.given_up_until().min(state.front_until()) <= self.now {
                self.deliver_some(seat, usize::MAX);
            }
        }
    }

    fn deliver(&mut self, seat: usize) {
        let several = 1 + self.random.below(4);
        self.deliver_some(seat, several);
    }

    fn deliver_some(&mut self, seat: usize, several: usize) {
        let Some(process) = self.processes[seat].as_mut() else { return };
        let epoch = process.epoch;
        let mut twice = None;
        for _ in 0..several {
            let Some((call, nanos, fate)) = process.reports.pop_front() else { break };
            report(&mut self.pool, seat, epoch, call, nanos, fate).expect("it is about a call that was sent");
            twice = Some((call, nanos, fate));
        }
        if let Some((call, nanos, fate)) = twice.filter(|_| self.random.one_in(500))
            && report(&mut self.pool, seat, epoch, call, nanos, fate).is_err()
        {
            // A worker that repeats a report is corrupt, and is killed.
            process.dead = true;
            process.reports.clear();
        }
        self.pool.progressed(seat, epoch, self.now);
        self.note_front(seat);
        self.touched = Some(seat);
    }

    /// All or a part of what a worker has sent arrives; then its death is noticed.
    fn notice_death(&mut self, seat: usize) {
        let Some(process) = self.processes[seat].take_if(|process| process.dead) else {
            if self.processes[seat].as_ref().is_none_or(Process::is_quiet) {
                // It has nothing more to send.
                self.is_active[seat] = false;
                self.active.retain(|active| *active != seat);
            }
            return;
        };
        let shows = process.shows();
        let arrive = match self.random.one_in(4) {
            true => self.random.below(process.reports.len() + 1),
            false => process.reports.len(),
        };
        for (call, nanos, fate) in process.reports.into_iter().take(arrive) {
            report(&mut self.pool, seat, process.epoch, call, nanos, fate).expect("it was sent");
        }
        if let Some(running) = process.running {
            let fact = &mut self.jobs[running.call.job as usize];
            (fact.running, fact.ran) = (false, true);
        }
        let stage = process.stage.unwrap_or(Stage::Running);
        let loss = Arc::new(Loss { stage, ..(*tests::loss()).clone() });
        self.pool.lost(seat, process.epoch, &loss, shows, self.now);
        self.pool.seats[seat].failures = 0;
        if self.random.one_in(20) {
            self.news.push(News::Lost { seat, epoch: process.epoch, claimed: shows });
        }
        self.empty.push(seat);
        self.touched = Some(seat);
    }
}

impl Process {
    fn memory(&self) -> u64 {
        match &self.running {
            Some(Running { fate: Fate::Grows, .. }) => 101,
            _ => u64::from(self.claimed) % 60,
        }
    }

    /// The latest call that it has started, as its page says.
    fn shows(&self) -> u32 {
        let ahead = self.inbox.back().map_or(0, |(_, last)| last.number.wrapping_sub(self.claimed));
        match &self.running {
            Some(Running { fate: Fate::Lies(Lie::NotStarted | Lie::Idle), .. }) => self.claimed.wrapping_sub(1),
            Some(Running { fate: Fate::Lies(Lie::FarAhead), .. }) => self.claimed.wrapping_add(ahead),
            // Whatever was sent since, and then some.
            Some(Running { fate: Fate::Lies(Lie::Beyond), .. }) => self.claimed.wrapping_add(ahead.max(1) + 1_000_000),
            _ => self.claimed,
        }
    }

    /// The generation that it has found out about, as its page says.
    fn acknowledges(&self) -> u32 {
        match &self.running {
            Some(Running { fate: Fate::Lies(Lie::Idle), .. }) => self.generation,
            _ => self.heard,
        }
    }

    fn is_quiet(&self) -> bool {
        !self.dead
            && self.stopping.is_none()
            && self.running.is_none()
            && self.inbox.is_empty()
            && self.reports.is_empty()
    }
}

fn report(
    pool: &mut Simple,
    seat: usize,
    epoch: u32,
    call: CallHeader,
    nanos: Time,
    fate: Fate,
) -> Result<(), &'static str> {
    let failed = |stage, failure| Some(Failed { stage, leaving: false, failure });
    let failed = match fate {
        Fate::Panics => {
            failed(Stage::Running, protocol::Failure::Panicked(PanicInfo::from_message("simulated".into())))
        }
        Fate::Unreadable => failed(Stage::Decoding, protocol::Failure::Decode("simulated".into())),
        _ => None,
    };
    pool.report(seat, epoch, (call.number, 1), failed)?;
    pool.timed(seat, epoch, 1, nanos)
}
