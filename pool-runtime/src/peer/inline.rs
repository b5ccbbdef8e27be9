//! Calls that run at once, on the thread that submits them.
//!
//! Each such thread has a *desk* for each pool: a [`Duty`] with the state that the initializer made, and a buffer for
//! its records. A desk leaves the thread's list while a call runs, so a nested call of the same pool gets another desk.
//!
//! A desk is dropped with its pool or its thread. As states need not be `Send`, a thread other than the one that ends
//! the pool drops its desk when it next uses an inline pool, or ends.

use crate::error::{Error, Kind, Result};
use crate::locks::lock;
use crate::memory::upward::RegionList;
use crate::memory::{ALIGN, Arrivals, StatusPage, Upward};
use crate::panic::{self, Quiet};
use crate::protocol::{CallsWriter, NamedCall};
use crate::run::{Reporter, current};
use crate::transport::Outlet;
use crate::worker::{self, Duty, Next};
use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct Inline {
    /// Whether the pool takes calls, and so keeps desks. Its address identifies the pool.
    open: Arc<AtomicBool>,
    initializer: Option<NamedCall>,
    tasks_per_child: u64,
}

struct Desk {
    open: Arc<AtomicBool>,
    duty: Duty,
    records: Records,
    returned: RegionList,
    /// The number of the latest call.
    number: u32,
    calls: u64,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _quiet = Quiet::new();
        self.duty.drop_state();
    }
}

thread_local! {
    static DESKS: RefCell<Vec<Desk>> = const { RefCell::new(Vec::new()) };
}

/// Takes desks out of this thread's list. It is empty when the thread is about to end.
fn take(which: impl Fn(&Desk) -> bool) -> Vec<Desk> {
    DESKS.try_with(|desks| desks.borrow_mut().extract_if(.., |desk| which(desk)).collect()).unwrap_or_default()
}

type Records = Arc<Mutex<Vec<u8>>>;

impl Outlet for Records {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        lock(self).extend_from_slice(frame.get(ALIGN..).unwrap_or_default());
        Ok(())
    }
}

impl Inline {
    /// Fails if the initializer does.
    pub(crate) fn new(initializer: Option<NamedCall>, tasks_per_child: u64) -> Result<Self> {
        let inline = Self { open: Arc::new(AtomicBool::new(true)), initializer, tasks_per_child };
        // An initializer that fails has to fail now, as with processes.
        inline.put_back(inline.new_desk()?);
        Ok(inline)
    }

    fn new_desk(&self) -> Result<Desk> {
        let page = StatusPage::local().map_err(|error| Error::os("cannot run a call in this process", error))?;
        let initialize = |call| {
            let _quiet = Quiet::new();
            worker::initialize(call, &page)
        };
        let state = self.initializer.as_ref().map(initialize).transpose()?;
        let records = Records::default();
        let reporter = Reporter::frames(Box::new(records.clone()));
        let returned = RegionList::default();
        let duty = Duty::new(Arc::new(page), reporter, Upward::Here(returned.clone()), false, state);
        Ok(Desk { open: self.open.clone(), duty, records, returned, number: 0, calls: 0 })
    }

    fn owns(&self, desk: &Desk) -> bool {
        Arc::ptr_eq(&desk.open, &self.open)
    }

    fn put_back(&self, desk: Desk) {
        if self.open.load(Ordering::Acquire) && desk.calls < self.tasks_per_child {
            // A nested call may have left its own desk. That is dropped after the borrow, as destructors are user code.
            let _other = take(|other| self.owns(other));
            let mut desk = Some(desk);
            let _ = DESKS.try_with(|desks| desks.borrow_mut().extend(desk.take()));
        }
    }

    /// Runs a call, which `write` writes as a frame under the number that it is given. Returns its records, that of its
    /// end first, and where the regions are to which it refers. Fails if this thread has no state yet and the initializer
    /// fails.
    pub(crate) fn run(&self, write: impl FnOnce(CallsWriter<'_, Vec<u8>>, u32)) -> Result<(Vec<u8>, Arrivals)> {
        drop(take(|desk| !desk.open.load(Ordering::Acquire) && !self.owns(desk)));
        let mut desk = take(|desk| self.owns(desk)).pop().map_or_else(|| self.new_desk(), Ok)?;
        desk.number = desk.number.wrapping_add(1);
        desk.calls += 1;
        let mut frame = Vec::new();
        write(CallsWriter::new(&mut frame, 0), desk.number);
        let next = {
            let _quiet = Quiet::new();
            let outer = current::thread_runs(Some(desk.duty.clock.clone()));
            let next = desk.duty.obey(&frame);
            current::thread_runs(outer);
            next
        };
        let records = std::mem::take(&mut *lock(&desk.records));
        let arrivals = Arrivals::Here(desk.returned.clone());
        match next {
            Ok(Next::Continue) => self.put_back(desk),
            // After a panic the state may be broken: the next call gets another one.
            Ok(Next::Exit(_)) => drop(desk),
            Err(fault) => return Err(Error::new(Kind::Invalid(fault))),
        }
        Ok((records, arrivals))
    }

    /// Takes no more calls, and drops this thread's desk.
    pub(crate) fn leave(&self) {
        self.open.store(false, Ordering::Release);
        panic::drop_quietly(take(|desk| self.owns(desk)));
    }
}
