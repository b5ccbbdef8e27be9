//! What each side makes of what it is sent.

use super::*;

const KEY: &[u8] = b"the key";

fn terms(key: &[u8], allow_md5: bool) -> Terms {
    Terms { key: AuthKey::new(key), allow_md5 }
}

fn listener(allow_md5: bool) -> (Challenger, Vec<u8>) {
    let (listener, first) = Challenger::new(terms(KEY, allow_md5), Side::Listener).unwrap();
    (listener, first.unwrap())
}

fn client(allow_md5: bool) -> Challenger {
    let (client, first) = Challenger::new(terms(KEY, allow_md5), Side::Client).unwrap();
    assert_eq!(first, None);
    client
}

fn refusal(answer: ProofAnswer) -> KeyRefusal {
    match answer.then {
        Then::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// The one message that it answers, and goes on.
fn goes_on(answer: ProofAnswer) -> Vec<u8> {
    assert_eq!((answer.messages.len(), answer.then), (1, Then::Receive));
    answer.messages.into_iter().next().unwrap()
}

fn hmac_sha256(key: &[u8], challenge: &[u8]) -> Vec<u8> {
    [DIGEST, &proof::<Hmac<Sha256>>(key, challenge)].concat()
}

/// A client that has proved its key, and is now to be shown a proof; and its challenge.
fn asking_client(allow_md5: bool) -> (Challenger, Vec<u8>) {
    let mut client = client(allow_md5);
    goes_on(client.receive(&[CHALLENGE, DIGEST, &[1; 40]].concat()));
    let challenge = goes_on(client.receive(WELCOME));
    (client, challenge[CHALLENGE.len()..].to_vec())
}

#[test]
fn both_sides_prove_the_key() {
    let ((mut listener, challenge), mut client) = (listener(false), client(false));
    assert_eq!(challenge.len(), CHALLENGE.len() + OWN);
    let proof = goes_on(client.receive(&challenge));
    // As CPython computes it: over the whole challenge, with the name of the digest.
    assert_eq!(proof, hmac_sha256(KEY, &challenge[CHALLENGE.len()..]));
    let welcome = goes_on(listener.receive(&proof));
    let challenge = goes_on(client.receive(&welcome));
    let proof = goes_on(listener.receive(&challenge));
    let done = client.receive(&proof);
    assert_eq!((done.messages.as_slice(), done.then), (&[WELCOME.to_vec()][..], Then::Done));
    let done = listener.receive(WELCOME);
    assert_eq!((done.messages.len(), done.then), (0, Then::Done));
}

/// The vectors of RFC 4231 and RFC 2202, case 2.
#[test]
fn digests_are_those_of_the_standard() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (key, text) = (b"Jefe", b"what do ya want for nothing?");
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hex(proof::<Hmac<Sha256>>(key, text)), expected);
    assert_eq!(hex(proof::<Hmac<Md5>>(key, text)), "750c783e6ab0b503eaa86e310a5db738");
}

#[test]
fn another_key_is_refused_on_both_sides() {
    let (mut one, challenge) = listener(false);
    let answer = one.receive(&hmac_sha256(b"another key", &challenge[CHALLENGE.len()..]));
    assert_eq!(answer.messages, [FAILURE.to_vec()]);
    assert_eq!(refusal(answer), KeyRefusal::WrongProof);

    let mut one = client(false);
    goes_on(one.receive(&challenge_of(DIGEST)));
    assert_eq!(refusal(one.receive(FAILURE)), KeyRefusal::KeyRefused);

    // A listener that welcomes everybody.
    let (mut one, challenge) = asking_client(false);
    assert_eq!(refusal(one.receive(&hmac_sha256(b"another key", &challenge))), KeyRefusal::WrongProof);
}

fn challenge_of(digest: &[u8]) -> Vec<u8> {
    [CHALLENGE, digest, &[9; 40]].concat()
}

#[test]
fn a_recorded_proof_is_refused() {
    let (mut first, challenge) = listener(false);
    let recorded = hmac_sha256(KEY, &challenge[CHALLENGE.len()..]);
    goes_on(first.receive(&recorded));
    let (mut second, _) = listener(false);
    assert_eq!(refusal(second.receive(&recorded)), KeyRefusal::WrongProof);
}

#[test]
fn what_is_no_proof_is_refused() {
    for (sent, expected) in [
        (&b""[..], KeyRefusal::NotAProof(Vec::new())),
        (b"hello", KeyRefusal::NotAProof(b"hello".to_vec())),
        (b"{sha256}", KeyRefusal::WrongProof),
        (b"{sha256}short", KeyRefusal::WrongProof),
        (&[0; 16], KeyRefusal::LegacyProof),
        (b"{md5}0123456789abcdef", KeyRefusal::OtherDigest(b"{md5}0123456789abcdef".to_vec())),
        (b"{sha1}0123456789abcdef", KeyRefusal::OtherDigest(b"{sha1}0123456789abcdef".to_vec())),
        (WELCOME, KeyRefusal::NotAProof(WELCOME.to_vec())),
    ] {
        assert_eq!(refusal(listener(false).0.receive(sent)), expected);
        assert_eq!(refusal(asking_client(false).0.receive(sent)), expected);
    }
    // Also where MD5 is allowed, it has to be right, and to be what an old CPython sends.
    let (mut one, challenge) = listener(true);
    assert_eq!(refusal(one.receive(&[0; 16])), KeyRefusal::WrongProof);
    let prefixed = [b"{md5}", &*proof::<Hmac<Md5>>(KEY, &challenge[CHALLENGE.len()..])].concat();
    assert_eq!(refusal(listener(true).0.receive(&prefixed)), KeyRefusal::OtherDigest(prefixed));
}

#[test]
fn md5_counts_only_where_it_is_allowed() {
    let legacy = [CHALLENGE, &[7; 20]].concat();
    for challenge in [legacy.clone(), challenge_of(b"{md5}")] {
        assert_eq!(refusal(client(false).receive(&challenge)), KeyRefusal::LegacyChallenge);
    }
    assert_eq!(goes_on(client(true).receive(&legacy)), proof::<Hmac<Md5>>(KEY, &[7; 20]));
    let named = goes_on(client(true).receive(&challenge_of(b"{md5}")));
    assert!(named.starts_with(b"{md5}") && named.len() == 5 + 16);
    let (mut one, challenge) = listener(true);
    goes_on(one.receive(&proof::<Hmac<Md5>>(KEY, &challenge[CHALLENGE.len()..])));
}

#[test]
fn what_is_no_challenge_is_refused() {
    for (sent, expected) in [
        (b"".to_vec(), KeyRefusal::NotAChallenge(Vec::new())),
        (b"hello".to_vec(), KeyRefusal::NotAChallenge(b"hello".to_vec())),
        (CHALLENGE.to_vec(), KeyRefusal::ShortChallenge(0)),
        ([CHALLENGE, &[0; 19]].concat(), KeyRefusal::ShortChallenge(19)),
        ([CHALLENGE, &[0; 21]].concat(), KeyRefusal::UnknownDigest(vec![0; 21])),
        (challenge_of(b"{sha1}"), KeyRefusal::UnknownDigest([&b"{sha1}"[..], &[9; 40]].concat())),
        (challenge_of(b"{sha3_256}"), KeyRefusal::UnknownDigest([&b"{sha3_256}"[..], &[9; 40]].concat())),
    ] {
        assert_eq!(refusal(client(false).receive(&sent)), expected);
        assert_eq!(refusal(client(true).receive(&sent)), expected);
    }
    let stronger = goes_on(client(false).receive(&challenge_of(b"{sha384}")));
    assert_eq!(stronger.len(), 8 + 48);
    let (mut one, _) = (client(false), goes_on(client(false).receive(&challenge_of(DIGEST))));
    goes_on(one.receive(&challenge_of(DIGEST)));
    assert_eq!(refusal(one.receive(b"#WELCOME")), KeyRefusal::NotAVerdict(b"#WELCOME".to_vec()));
}

#[test]
fn a_challenge_that_is_sent_back_is_not_answered() {
    // In place of a proof, to the side that sent it.
    let (mut one, challenge) = listener(false);
    assert_eq!(refusal(one.receive(&challenge)), KeyRefusal::Reflected);
    let (mut one, challenge) = listener(false);
    assert_eq!(refusal(one.receive(&challenge[CHALLENGE.len()..])), KeyRefusal::Reflected);
    // As a challenge, by somebody who is welcome.
    let (mut one, challenge) = listener(false);
    goes_on(one.receive(&hmac_sha256(KEY, &challenge[CHALLENGE.len()..])));
    assert_eq!(refusal(one.receive(&challenge)), KeyRefusal::Reflected);
}

#[test]
fn a_clients_challenge_is_not_answered_by_another_client() {
    let (_asking, challenge) = asking_client(false);
    let sent = [CHALLENGE, &challenge].concat();
    assert_eq!(refusal(client(false).receive(&sent)), KeyRefusal::Reflected);
    // A listener answers it: that is what it is for.
    let (mut one, challenge) = listener(false);
    goes_on(one.receive(&hmac_sha256(KEY, &challenge[CHALLENGE.len()..])));
    goes_on(one.receive(&sent));
    // One with another key does not know whose it is.
    let (mut other, _) = Challenger::new(terms(b"another key", false), Side::Client).unwrap();
    goes_on(other.receive(&sent));
}

#[test]
fn nothing_that_is_sent_panics_or_shows_the_key() {
    let mut seed = 1_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let starts: [&[u8]; 8] = [b"", CHALLENGE, WELCOME, FAILURE, DIGEST, b"{md5}", b"#CHALLENGE#{sha256}", b"{"];
    for _ in 0..5000 {
        let mut message = starts[(random() % 8) as usize].to_vec();
        message.extend((0..random() % 70).map(|_| random() as u8));
        for mut side in [listener(true).0, client(true), asking_client(false).0] {
            if let Then::Refuse(refusal) = side.receive(&message).then {
                let text = format!("{refusal} {side:?}");
                assert!(!text.contains("the key\"") && text.len() < 2000, "{text}");
                assert!(!refusal.to_string().contains(char::is_control), "{text}");
            }
        }
    }
}
