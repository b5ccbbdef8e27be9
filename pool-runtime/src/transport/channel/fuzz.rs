//! Frames that come in fragments, put together again out of whatever a hostile worker sends.

use crate::fuzz::{Kind, Plan, run};
use crate::transport::channel::*;

/// The packets that a sender makes of these frames, as they arrive.
fn packets(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let pair = Pair::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| frames.iter().for_each(|frame| pair.sender.send(frame).unwrap()));
        let mut packets = Vec::new();
        for _ in frames {
            loop {
                let packet = pair.worker_receiver.recv().unwrap();
                let left = Fragment::read(&packet).unwrap().0.left;
                packets.push(packet);
                if left == 0 {
                    break;
                }
            }
        }
        packets
    })
}

/// Packets in one input: before each, its length in two bytes.
fn joined(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.iter().flat_map(|packet| [&(packet.len() as u16).to_le_bytes()[..], packet].concat()).collect()
}

fn cut(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let (packet, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        input = rest;
        Some(packet)
    })
}

/// A fragment of a frame, as short as no sender makes one.
fn short_fragment(total: u64, left: u64, bytes: &[u8]) -> Vec<u8> {
    let mut fragment = Vec::new();
    Fragment { left, total }.write(&mut fragment);
    fragment.extend_from_slice(bytes);
    fragment
}

#[test]
fn frames_in_fragments() {
    let whole = packets(&[vec![], vec![1; 40], vec![2; 300]]);
    // What a large frame is cut into, in small: its fragments are too long to be tried by the thousand.
    let large = packets(&[vec![3; 2 * longest()]]);
    assert!(large.len() == 3 && large[1].len() == longest());
    let fragments: Vec<_> = [(60, 40), (40, 10), (10, 0)]
        .map(|(before, left)| short_fragment(60, left, &vec![4; before - left as usize]))
        .into();
    let corpus =
        vec![joined(&whole), joined(&fragments), joined(&[&fragments[..], &whole].concat()), joined(&fragments[..2])];
    let mut receiver = Pair::new().unwrap().receiver;
    receiver.shortest = 1;
    for (packets, frames) in [(&whole, 3), (&large, 1), (&fragments, 1)] {
        let whole = packets.iter().filter(|packet| receiver.assemble(packet.to_vec()).unwrap().is_some());
        assert_eq!(whole.count(), frames);
    }
    let receiver = std::cell::RefCell::new(receiver);
    let memory = |length| (8 << 10) + 8 * length;
    let tried = run(Plan { name: "frames in fragments", corpus, memory }, |input| {
        let mut receiver = receiver.borrow_mut();
        (receiver.unfinished, receiver.total) = (Vec::new(), 0);
        let (mut frames, mut length) = (0, 0);
        for packet in cut(input) {
            match receiver.assemble(packet.to_vec()) {
                Ok(Some(frame)) => {
                    frames += 1;
                    length += frame.len();
                }
                Ok(None) => {}
                // The worker is killed, and nothing of it is received any more.
                Err(fault) => return Kind::of((fault, frames.min(4), length.min(400) / 50)),
            }
            assert!(length + receiver.unfinished.len() <= input.len());
        }
        Kind::of((frames.min(4), length.min(400) / 50, receiver.unfinished.is_empty()))
    });
    assert!(tried.kinds > 8, "{tried:?}");
}
