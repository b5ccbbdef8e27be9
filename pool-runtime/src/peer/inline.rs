//! Calls that run at once, on the thread that submits them.
//!
//! Each thread that does so has a *desk* for each such pool: a [`Duty`], with the state that the pool's initializer
//! makes, and a place where its records arrive. A desk is taken out of the thread's drawer while a call runs, so that a
//! task may submit to the same pool: that call gets another desk.
//!
//! A desk goes with its pool or its thread. States need not be `Send`, so those of other threads than the one that ends
//! the pool go when those threads next use such a pool, or end.

use crate::error::{Error, Kind, Result};
use crate::memory::{ALIGN, StatusPage};
use crate::panic::{self, Quiet};
use crate::protocol::{CallsWriter, NamedCall};
use crate::run::Reporter;
use crate::run::current::{self, JobClock};
use crate::sync::lock;
use crate::transport::Outlet;
use crate::worker::{self, Duty, Next};
use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a pool's desks have in common.
#[derive(Debug)]
pub(crate) struct Inline {
    /// Calls are taken: desks are kept. It is also what tells pools apart.
    open: Arc<AtomicBool>,
    initializer: Option<NamedCall>,
    tasks_per_child: u64,
}

/// What a thread has for a pool.
struct Desk {
    open: Arc<AtomicBool>,
    clock: Arc<JobClock>,
    duty: Duty,
    records: Records,
    /// The number of the latest call.
    number: u32,
    /// How many it has run.
    calls: u64,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _quiet = Quiet::new();
        self.duty.drop_state();
    }
}

thread_local! {
    static DRAWER: RefCell<Vec<Desk>> = const { RefCell::new(Vec::new()) };
}

/// Takes desks out of this thread's drawer. None are there when the thread is about to end.
fn take(which: impl Fn(&Desk) -> bool) -> Vec<Desk> {
    DRAWER.try_with(|drawer| drawer.borrow_mut().extract_if(.., |desk| which(desk)).collect()).unwrap_or_default()
}

/// Where the records of a call arrive.
#[derive(Clone, Debug, Default)]
struct Records(Arc<Mutex<Vec<u8>>>);

impl Outlet for Records {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        lock(&self.0).extend_from_slice(frame.get(ALIGN..).unwrap_or_default());
        Ok(())
    }

    fn unhindered(&self) -> usize {
        usize::MAX
    }
}

impl Inline {
    /// # Errors
    ///
    /// The initializer fails.
    pub(crate) fn new(initializer: Option<NamedCall>, tasks_per_child: u64) -> Result<Self> {
        let inline = Self { open: Arc::new(AtomicBool::new(true)), initializer, tasks_per_child };
        // What fails is to fail now, as with processes.
        let desk = inline.new_desk()?;
        inline.put_back(desk);
        Ok(inline)
    }

    fn new_desk(&self) -> Result<Desk> {
        let page = StatusPage::local().map_err(|error| Error::os("cannot run a call in this process", error))?;
        let made = {
            let _quiet = Quiet::new();
            self.initializer.as_ref().map(|call| worker::initialize(call, &page)).transpose()
        };
        let state = made.map_err(Error::from)?;
        let records = Records::default();
        let reporter = Reporter::frames(Box::new(records.clone()));
        let page = Arc::new(page);
        let clock = Arc::new(JobClock::new(page.clone()));
        let duty = Duty::new(page, clock.clone(), reporter, false, state);
        Ok(Desk { open: self.open.clone(), clock, duty, records, number: 0, calls: 0 })
    }

    fn put_back(&self, desk: Desk) {
        let mut desk = Some(desk);
        if self.open.load(Ordering::Acquire) && desk.as_ref().is_some_and(|desk| desk.calls < self.tasks_per_child) {
            // A call that this one has made may have left its own.
            let other = take(|other| Arc::ptr_eq(&other.open, &self.open));
            let _ = DRAWER.try_with(|drawer| drawer.borrow_mut().extend(desk.take()));
            drop(other);
        }
        // The user's destructor runs when nothing is borrowed.
        drop(desk);
    }

    /// Runs a call, which `write` writes as a frame under the number that it is given. Returns its records: that of its
    /// end comes first.
    ///
    /// # Errors
    ///
    /// This thread has no state for the call, as the initializer fails.
    pub(crate) fn run(&self, write: impl FnOnce(CallsWriter<'_, Vec<u8>>, u32)) -> Result<Vec<u8>> {
        // Those of pools that are gone go, too.
        let (mine, gone): (Vec<_>, Vec<_>) =
            take(|desk| Arc::ptr_eq(&desk.open, &self.open) || !desk.open.load(Ordering::Acquire))
                .into_iter()
                .partition(|desk| Arc::ptr_eq(&desk.open, &self.open));
        drop(gone);
        let mut desk = match mine.into_iter().next() {
            Some(desk) => desk,
            None => self.new_desk()?,
        };
        desk.number = desk.number.wrapping_add(1);
        desk.calls += 1;
        let mut frame = Vec::new();
        write(CallsWriter::new(&mut frame, 0), desk.number);
        let next = {
            let _quiet = Quiet::new();
            let outer = current::thread_runs(Some(desk.clock.clone()));
            let next = desk.duty.obey(&frame);
            current::thread_runs(outer);
            next
        };
        let records = std::mem::take(&mut *lock(&desk.records.0));
        match next {
            Ok(Next::Continue) => self.put_back(desk),
            // After a panic its state may be broken: the next call has another one.
            Ok(Next::Exit(_)) => drop(desk),
            Err(fault) => return Err(Error::new(Kind::Invalid(fault))),
        }
        Ok(records)
    }

    /// No more calls come: what this thread has for them goes.
    pub(crate) fn leave(&self) {
        self.open.store(false, Ordering::Release);
        panic::drop_quietly(take(|desk| Arc::ptr_eq(&desk.open, &self.open)));
    }
}
