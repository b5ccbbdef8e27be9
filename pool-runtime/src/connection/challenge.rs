//! The proof that both sides have the same key, without any socket: messages in, messages out.
//!
//! It is the protocol of CPython's `multiprocessing.connection` (`deliver_challenge` and `answer_challenge` in
//! `Lib/multiprocessing/connection.py`, which describes it, of 3.12 and later; and of 3.11, for MD5):
//!
//! ```text
//!   listener                                          client
//!     #CHALLENGE#{sha256}40 random bytes ─────────▶
//!                    ◀─────────────────── {sha256}HMAC-SHA256(key, {sha256}40 random bytes)
//!     #WELCOME# (or #FAILURE#) ───────────────────▶
//!                    ◀─────────────────── #CHALLENGE#{sha256}40 other random bytes
//!     {sha256}HMAC-SHA256(key, …) ────────────────▶
//!                    ◀─────────────────── #WELCOME# (or #FAILURE#)
//! ```
//!
//! CPython up to 3.11 challenges with 20 random bytes, and answers with the bare HMAC-MD5 of whatever it was sent. That
//! is done, and accepted, only where it was asked for.
//!
//! | attack | why it fails |
//! |---|---|
//! | a recorded proof is sent again | each challenge is random |
//! | our own challenge is sent back, for us to answer it | it is known, and never answered |
//! | one client's challenge is given to another client | it has a [mark](client_mark) that only who has the key can make and see |
//! | a proof with another digest than was asked for | only the one that was asked for counts |
//! | the time that a comparison takes | `verify_slice` takes the same time for every wrong proof |
//!
//! One attack does not fail: whoever a client connects to can pass on everything between it and a listener with the
//! same key, and has the connection afterwards. The messages name neither side, and CPython's cannot be changed.

use crate::authkey::{AuthKey, fill_randomly};
use crate::error::Result;
use crate::foreign;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Sha256, Sha384};
use std::fmt;

/// The longest message before the key is proved, in bytes: as CPython's `recv_bytes(256)`.
pub(super) const LONGEST: usize = 256;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";

/// What our challenges ask for.
const DIGEST: &[u8] = b"{sha256}";
const RANDOM: usize = 24;
const MARK: usize = 16;
const OWN: usize = DIGEST.len() + RANDOM + MARK;

/// A challenge of CPython up to 3.11 has this length, and no other has.
const LEGACY_CHALLENGE: usize = 20;
const LEGACY_PROOF: usize = 16;

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Listener,
    Client,
}

/// What a side asks of the other.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) key: AuthKey,
    pub(super) allow_md5: bool,
}

/// Why the other side is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyRefusal {
    WrongProof,
    KeyRefused,
    NotAChallenge(Vec<u8>),
    ShortChallenge(usize),
    UnknownDigest(Vec<u8>),
    Reflected,
    LegacyChallenge,
    LegacyProof,
    OtherDigest(Vec<u8>),
    NotAProof(Vec<u8>),
    NotAVerdict(Vec<u8>),
}

impl fmt::Display for KeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MD5: &str = "HMAC-MD5, as CPython does before 3.12, and that is weak: upgrade it, or take \
                           `.allow_md5(true)` here";
        match self {
            Self::WrongProof => f.write_str("it has another key: both sides need the same one (`.authkey(key)`)"),
            Self::KeyRefused => {
                f.write_str("it refused the key of this side: both sides need the same one (`.authkey(key)`)")
            }
            Self::NotAChallenge(sent) => write!(
                f,
                "it sent {} in place of a challenge: does it have no key? Then connect with `.no_authkey()`",
                shown(sent)
            ),
            Self::ShortChallenge(length) => write!(f, "its challenge has {length} bytes, and 20 is the least"),
            Self::UnknownDigest(sent) => write!(
                f,
                "its challenge asks for no digest that is known here, which are `sha256` and `sha384`, but is {}",
                shown(sent)
            ),
            Self::Reflected => f.write_str("it sent back a challenge of this side, so as to have it answered here"),
            Self::LegacyChallenge => write!(f, "its challenge asks for {MD5}"),
            Self::LegacyProof => write!(f, "it answered the challenge with {MD5}"),
            Self::OtherDigest(sent) => write!(
                f,
                "it answered the challenge with another digest than `sha256`, which was asked for: {}",
                shown(sent)
            ),
            Self::NotAProof(sent) => write!(
                f,
                "it sent {} in place of an answer to the challenge: does it connect without a key?",
                shown(sent)
            ),
            Self::NotAVerdict(sent) => write!(f, "it sent {} in place of its verdict", shown(sent)),
        }
    }
}

/// The beginning of what a stranger has sent, if it looks like a message of the protocol: anything else may be a
/// secret, such as a password, that was sent to the wrong side.
fn shown(sent: &[u8]) -> String {
    const MOST: usize = 24;
    match sent.len() {
        0 => "an empty message".to_owned(),
        length if !sent.starts_with(b"#") && !sent.starts_with(b"{") => format!("a message of {length} bytes"),
        length if length > MOST => format!("`{}…` ({length} bytes)", foreign::line(&sent[..MOST])),
        _ => format!("`{}`", foreign::line(sent)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProofStage {
    /// Its challenge.
    Challenge,
    /// What it says of our proof.
    Verdict,
    /// Its proof.
    Proof,
}

/// What to do after a message.
#[derive(Debug)]
pub(super) struct ProofAnswer {
    /// To be sent, in this order.
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) then: Then,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    Receive,
    /// Both sides have proved that they have the key.
    Done,
    Refuse(KeyRefusal),
}

/// One side of the proof.
#[derive(Debug)]
pub(super) struct Challenger {
    terms: Terms,
    side: Side,
    awaited: ProofStage,
    own: [u8; OWN],
}

impl Challenger {
    /// The message, if there is one, is to be sent first.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub(super) fn new(terms: Terms, side: Side) -> Result<(Self, Option<Vec<u8>>)> {
        let own = own_challenge(&terms.key, side)?;
        let awaited = match side {
            Side::Listener => ProofStage::Proof,
            Side::Client => ProofStage::Challenge,
        };
        let challenger = Self { terms, side, awaited, own };
        let first = (side == Side::Listener).then(|| challenger.challenge());
        Ok((challenger, first))
    }

    /// What it waits for, as part of "before it …".
    pub(super) fn waits_for(&self) -> &'static str {
        match self.awaited {
            ProofStage::Challenge => "sent a challenge",
            ProofStage::Verdict => "said what it thinks of the key",
            ProofStage::Proof => "answered the challenge",
        }
    }

    /// Whether a client has proved that it has the key. Of a listener, that is known only at the end.
    pub(super) fn peer_has_proved(&self) -> bool {
        self.side == Side::Listener && self.awaited != ProofStage::Proof
    }

    fn challenge(&self) -> Vec<u8> {
        [CHALLENGE, &self.own].concat()
    }

    /// What this message, which has no more than [`LONGEST`] bytes, leads to.
    pub(super) fn receive(&mut self, message: &[u8]) -> ProofAnswer {
        let (message, awaited) = match self.awaited {
            ProofStage::Proof => match self.check_proof(message) {
                // The client has the last word; the listener is challenged in turn.
                Ok(()) if self.side == Side::Client => {
                    return ProofAnswer { messages: vec![WELCOME.into()], then: Then::Done };
                }
                Ok(()) => (WELCOME.to_vec(), ProofStage::Challenge),
                Err(refusal) => return ProofAnswer { messages: vec![FAILURE.into()], then: Then::Refuse(refusal) },
            },
            ProofStage::Challenge => match self.proof_for(message) {
                Ok(proof) => (proof, ProofStage::Verdict),
                Err(refusal) => return ProofAnswer { messages: Vec::new(), then: Then::Refuse(refusal) },
            },
            ProofStage::Verdict => match message {
                WELCOME if self.side == Side::Listener => {
                    return ProofAnswer { messages: Vec::new(), then: Then::Done };
                }
                WELCOME => (self.challenge(), ProofStage::Proof),
                FAILURE => return ProofAnswer { messages: Vec::new(), then: Then::Refuse(KeyRefusal::KeyRefused) },
                other => {
                    let refusal = KeyRefusal::NotAVerdict(other.to_vec());
                    return ProofAnswer { messages: Vec::new(), then: Then::Refuse(refusal) };
                }
            },
        };
        self.awaited = awaited;
        ProofAnswer { messages: vec![message], then: Then::Receive }
    }

    /// Whether this message proves that the other side has the key.
    fn check_proof(&self, message: &[u8]) -> Result<(), KeyRefusal> {
        if message.strip_prefix(CHALLENGE) == Some(&self.own) || message == self.own {
            return Err(KeyRefusal::Reflected);
        }
        let key = self.terms.key.as_bytes();
        let is_right = if message.len() == LEGACY_PROOF {
            if !self.terms.allow_md5 {
                return Err(KeyRefusal::LegacyProof);
            }
            digest::<Hmac<Md5>>(key, &self.own).verify_slice(message)
        } else if let Some(proof) = message.strip_prefix(DIGEST) {
            digest::<Hmac<Sha256>>(key, &self.own).verify_slice(proof)
        } else if message.starts_with(b"{") {
            return Err(KeyRefusal::OtherDigest(message.to_vec()));
        } else {
            return Err(KeyRefusal::NotAProof(message.to_vec()));
        };
        is_right.map_err(|_| KeyRefusal::WrongProof)
    }

    /// The answer to a challenge.
    fn proof_for(&self, message: &[u8]) -> Result<Vec<u8>, KeyRefusal> {
        let Some(challenge) = message.strip_prefix(CHALLENGE) else {
            return Err(KeyRefusal::NotAChallenge(message.to_vec()));
        };
        if challenge == self.own || self.is_of_a_client(challenge) {
            return Err(KeyRefusal::Reflected);
        }
        let key = self.terms.key.as_bytes();
        match challenge.len() {
            ..LEGACY_CHALLENGE => return Err(KeyRefusal::ShortChallenge(challenge.len())),
            LEGACY_CHALLENGE if self.terms.allow_md5 => return Ok(proof::<Hmac<Md5>>(key, challenge)),
            LEGACY_CHALLENGE => return Err(KeyRefusal::LegacyChallenge),
            _ => {}
        }
        let prefixed = |name: &[u8], proof: Vec<u8>| [name, &proof].concat();
        if challenge.starts_with(DIGEST) {
            Ok(prefixed(DIGEST, proof::<Hmac<Sha256>>(key, challenge)))
        } else if challenge.starts_with(b"{sha384}") {
            Ok(prefixed(b"{sha384}", proof::<Hmac<Sha384>>(key, challenge)))
        } else if !challenge.starts_with(b"{md5}") {
            Err(KeyRefusal::UnknownDigest(challenge.to_vec()))
        } else if self.terms.allow_md5 {
            Ok(prefixed(b"{md5}", proof::<Hmac<Md5>>(key, challenge)))
        } else {
            Err(KeyRefusal::LegacyChallenge)
        }
    }

    /// A client that is asked for what another client asked for: whoever asks has no proof of its own.
    fn is_of_a_client(&self, challenge: &[u8]) -> bool {
        let parts = challenge.strip_prefix(DIGEST).and_then(|rest| rest.split_at_checked(RANDOM));
        parts.is_some_and(|(random, mark)| {
            self.side == Side::Client && client_mark(&self.terms.key, random).verify_truncated_left(mark).is_ok()
        })
    }
}

/// Random bytes; those of a client end with its mark.
fn own_challenge(key: &AuthKey, side: Side) -> Result<[u8; OWN]> {
    let mut own = [0; OWN];
    let (name, random) = own.split_at_mut(DIGEST.len());
    name.copy_from_slice(DIGEST);
    fill_randomly(random, "make a challenge")?;
    if side == Side::Client {
        let (random, mark) = random.split_at_mut(RANDOM);
        mark.copy_from_slice(&client_mark(key, random).finalize().into_bytes()[..MARK]);
    }
    Ok(own)
}

/// What a client's challenge ends with. A listener's has none: it would give strangers something to try keys on, which
/// a client, who proves its key to whoever it connects to, does anyway. What is hashed is no challenge, so that nobody
/// makes a mark of an answer.
fn client_mark(key: &AuthKey, random: &[u8]) -> Hmac<Sha256> {
    let mut mark = digest::<Hmac<Sha256>>(key.as_bytes(), b"pool-runtime: a client's challenge ");
    mark.update(random);
    mark
}

fn digest<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> M {
    let mac = <M as KeyInit>::new_from_slice(key);
    let mut mac = mac.unwrap_or_else(|_| unreachable!("a key of HMAC has any length"));
    mac.update(message);
    mac
}

fn proof<M: Mac + KeyInit>(key: &[u8], challenge: &[u8]) -> Vec<u8> {
    digest::<M>(key, challenge).finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests;
