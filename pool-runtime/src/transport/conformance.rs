//! The contract of [`Outlet`] and [`Inlet`], tried on each transport.

use crate::transport::ring::{BellPage, CORRUPT, CallReceiver, CallSender, LEADER, RingMemory, WHOLE, worker_ends};
use crate::transport::{Append as _, Frame, Inlet, Outlet, Received, channel, local};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One direction of a transport.
struct Tried {
    name: &'static str,
    outlet: Arc<dyn Outlet>,
    inlet: Box<dyn Inlet>,
    /// Closes the outlet, if dropping it does not.
    close: Box<dyn FnOnce()>,
    /// An end notices that the other is gone. Those of a ring do not: the process at the other side is watched instead.
    notices: bool,
}

fn transports() -> [Tried; 4] {
    let channel = || {
        let pair = channel::Pair::new().unwrap();
        let [reads, writes] = pair.worker_ends().map(|end| end.try_clone_to_owned().unwrap());
        let (sender, receiver) = channel::inherited(reads, writes).unwrap();
        // The parent's copies of the worker's ends close with the pair.
        let channel::Pair { sender: parent_sender, receiver: parent_receiver, .. } = pair;
        ((parent_sender, receiver), (sender, parent_receiver))
    };
    fn tried(name: &'static str, outlet: impl Outlet + 'static, inlet: impl Inlet + 'static) -> Tried {
        Tried { name, outlet: Arc::new(outlet), inlet: Box::new(inlet), close: Box::new(|| ()), notices: true }
    }
    let ((to_worker, in_worker), _) = channel();
    let (_, (to_parent, in_parent)) = channel();
    let (sender, receiver) = local::queue();
    let also_sender = sender.clone();
    let (calls, in_ring) = ring_ends();
    [
        tried("channel to the worker", to_worker, in_worker),
        tried("channel to the parent", to_parent, in_parent),
        Tried { close: Box::new(move || _ = also_sender.close()), ..tried("local", sender, receiver) },
        Tried { notices: false, ..tried("ring of calls", calls, in_ring) },
    ]
}

/// The ring of calls, which has no frames of its own on the way back.
struct RingOutlet {
    calls: Mutex<CallSender>,
    bells: Arc<BellPage>,
}

struct RingInlet(CallReceiver);

fn ring_ends() -> (RingOutlet, RingInlet) {
    let (memory, bells) = (RingMemory::new().unwrap(), BellPage::new().unwrap());
    let handles = [&memory.handle, &bells.handle].map(|handle| handle.as_ref().unwrap().try_clone().unwrap());
    let (calls, _) = worker_ends(handles.into()).unwrap();
    let sender = CallSender::new(Arc::new(memory));
    (RingOutlet { calls: Mutex::new(sender), bells: Arc::new(bells) }, RingInlet(calls))
}

impl Outlet for RingOutlet {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        let mut calls = self.calls.lock().unwrap();
        loop {
            let seen = self.bells.seen(LEADER);
            for _ in 0..2 {
                let sent = match frame.len() <= WHOLE {
                    true => calls.send(frame.len(), |space| space.put(frame)),
                    false => calls.send_in_pieces(frame),
                };
                if sent.map_err(|_| io::Error::other(CORRUPT))? {
                    return Ok(());
                }
                calls.await_room();
            }
            self.bells.wait(LEADER, seen, None);
        }
    }

    fn unhindered(&self) -> usize {
        WHOLE / 2
    }
}

impl Inlet for RingInlet {
    fn receive(&mut self, deadline: Option<Instant>) -> Received {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| !self.0.is_ready_within(left).unwrap()) {
            return Received::Nothing;
        }
        self.0.next(|frame| Received::Frame(Frame::new(frame.to_vec(), 0))).unwrap()
    }
}

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % limit.max(1)
    }

    /// Mostly short, sometimes longer than any buffer on the way.
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let length = match self.below(40) {
            0 => self.below(3 << 18),
            1..=4 => self.below(WHOLE + 1),
            _ => self.below(200),
        };
        let first = self.below(256);
        (0..length).map(|at| (first + at) as u8).collect()
    }
}

fn frame(received: Received) -> Vec<u8> {
    match received {
        Received::Frame(frame) => frame.to_vec(),
        other => panic!("{other:?} instead of a frame"),
    }
}

#[track_caller]
fn is_gone(received: Received, name: &str) {
    assert!(matches!(received, Received::Gone), "{name}: {received:?}");
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(20))
}

#[test]
fn frames_arrive_whole_and_in_order() {
    for seed in 1..8 {
        for Tried { outlet, mut inlet, name, .. } in transports() {
            let mut random = Random::new(seed);
            let frames: Vec<_> = (0..400).map(|_| random.bytes()).collect();
            std::thread::scope(|scope| {
                scope.spawn(|| frames.iter().for_each(|frame| outlet.send(frame).unwrap()));
                for (number, sent) in frames.iter().enumerate() {
                    // With and without a deadline.
                    let deadline = (number % 2 == 0).then(|| Instant::now() + Duration::from_secs(60));
                    assert!(frame(inlet.receive(deadline)) == *sent, "{name}: frame {number} of seed {seed}");
                }
            });
        }
    }
}

#[test]
fn frames_of_two_threads_do_not_mix() {
    for Tried { outlet, mut inlet, name, .. } in transports() {
        let outlet = &outlet;
        std::thread::scope(|scope| {
            for thread in 0..2_u8 {
                scope.spawn(move || (0..50).for_each(|n| outlet.send(&vec![2 * n + thread; 100_000]).unwrap()));
            }
            let mut next = [0, 1];
            for _ in 0..100 {
                let frame = frame(inlet.receive(None));
                let expected = &mut next[usize::from(frame[0] % 2)];
                assert!(frame == vec![*expected; 100_000], "{name}: {} instead of {expected}", frame[0]);
                *expected += 2;
            }
        });
    }
}

#[test]
fn a_few_unhindered_frames_are_sent_without_a_reader() {
    for Tried { outlet, mut inlet, name, .. } in transports() {
        let bytes = vec![7; outlet.unhindered().min(1 << 20)];
        (0..2).for_each(|_| outlet.send(&bytes).unwrap());
        (0..2).for_each(|_| assert!(frame(inlet.receive(None)) == bytes, "{name}"));
    }
}

#[test]
fn a_deadline_ends_the_wait_and_loses_no_frame() {
    for Tried { outlet, mut inlet, name, .. } in transports() {
        for deadline in [Some(Instant::now()), soon()] {
            let received = inlet.receive(deadline);
            assert!(matches!(received, Received::Nothing), "{name}: {received:?}");
            assert!(Some(Instant::now()) >= deadline, "{name}");
        }
        outlet.send(b"late").unwrap();
        assert_eq!(frame(inlet.receive(Some(Instant::now()))), b"late", "{name}");
    }
}

#[test]
fn what_was_sent_before_the_end_arrives() {
    for Tried { outlet, mut inlet, close, name, .. } in transports().into_iter().filter(|tried| tried.notices) {
        outlet.send(b"first").unwrap();
        outlet.send(b"").unwrap();
        drop(outlet);
        close();
        assert_eq!(frame(inlet.receive(None)), b"first", "{name}");
        assert_eq!(frame(inlet.receive(soon())), b"", "{name}");
        is_gone(inlet.receive(None), name);
        is_gone(inlet.receive(soon()), name);
    }
}

#[test]
fn a_receiver_that_is_gone_is_an_error() {
    for Tried { outlet, inlet, name, .. } in transports().into_iter().filter(|tried| tried.notices) {
        outlet.send(b"unread").unwrap();
        drop(inlet);
        assert!(outlet.send(b"").is_err(), "{name}");
        assert!(outlet.send(&vec![0; 1 << 20]).is_err(), "{name}");
    }
}
