//! Another source never makes the answer to an attack weaker, or much later, however late each of them reports.

use proptest::prelude::*;

use super::*;

const JAIL: &str = "asterisk-wazo";

/// How many more attempts another source may let pass: those that are made until a challenge counts as unanswered
/// do not wait for it.
const LATER: u32 = 4;

/// The time between two attempts, in milliseconds.
const GAP: u64 = 600;

/// A kind of attack, as Asterisk 22 reports it on a Wazo host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// Wrong passwords of an account.
    Guess,
    /// The same with an account that does not exist, another each time.
    GuessUnknown,
    /// Wrong passwords with an invented nonce.
    Invent,
    /// Requests for accounts that do not exist, another each time.
    Scan,
    /// Requests for one account, whose challenges are not answered.
    Knock,
    /// Calls to numbers that do not exist, with the right password.
    Dial,
}

const ATTACKS: [Attack; 6] = [
    Attack::Guess,
    Attack::GuessUnknown,
    Attack::Invent,
    Attack::Scan,
    Attack::Knock,
    Attack::Dial,
];

/// What reports: the NOTICE log, the wire, and AMI, also as their numbers.
const LOG: usize = 0;
const WIRE: usize = 1;
const AMI: usize = 2;

/// How the attacker comes.
#[derive(Clone, Copy, Debug)]
struct Way {
    attack: Attack,
    source: IpAddr,
    transport: Transport,
    /// Whether it registers first, and so becomes a known peer.
    registers: bool,
}

/// What became of an attack, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Unseen,
    Throttled,
    Banned,
}

/// A report, by its source, some milliseconds after its attempt begins.
type Report = (usize, u64, Attempt);

/// The reports of an attempt. `logs` says whether Asterisk reports that it knows no such account.
fn reports(way: Way, number: u64, logs: bool) -> Vec<Report> {
    let Way { attack, source, transport, .. } = way;
    let (is_unknown, answers) = match attack {
        Attack::Guess | Attack::Dial => (false, true),
        Attack::GuessUnknown => (true, true),
        Attack::Invent | Attack::Knock => (false, false),
        Attack::Scan => (true, false),
    };
    let account = if is_unknown { format!("x{number}") } else { "1001".to_owned() };
    let connects = transport.proves_source();
    let of = |by, verdict, class, is_named: bool| Attempt {
        account: is_named.then(|| account.clone()),
        session: Some(format!("a{number}")),
        port: Some(40_000),
        transport: (by != LOG).then_some(transport),
        proven: by != LOG && connects,
        needs_witness: by == LOG,
        ..Attempt::new(verdict, class, source)
    };
    let unknown =
        |at| [LOG, AMI].map(|by| (by, at, of(by, Verdict::Failure, Class::UnknownAccount, true)));
    let wrong = |at| {
        let log = of(LOG, Verdict::Failure, Class::WrongCredential, true);
        [(LOG, at, log), (AMI, at, of(AMI, Verdict::Failure, Class::WrongCredential, !is_unknown))]
    };
    let mut all = Vec::new();
    if is_unknown && logs {
        all.extend(unknown(0));
    }
    if attack == Attack::Invent {
        all.extend(wrong(0));
    }
    // AMI does not say for which unknown account it is.
    let challenge = |by, is_named| (by, 0, of(by, Verdict::Ignored, Class::Challenge, is_named));
    all.extend([challenge(WIRE, true), challenge(AMI, !is_unknown)]);
    if !answers {
        return all;
    }
    if is_unknown && logs {
        all.extend(unknown(20));
    }
    if attack == Attack::Dial {
        let right = of(AMI, Verdict::Success, Class::Challenge, true);
        all.push((AMI, 20, Attempt { answered: true, proven: true, ..right }));
        if number % 3 == 2 {
            let refused = of(WIRE, Verdict::Failure, Class::CallRejected, true);
            all.push((WIRE, 20, Attempt { proven: true, ..refused }));
        }
        return all;
    }
    all.extend(wrong(20));
    let refused = of(WIRE, Verdict::Failure, Class::WrongCredential, true);
    all.push((WIRE, 20, Attempt { proven: true, ..refused }));
    all
}

fn at_ms(milliseconds: u64) -> KernelTime {
    KernelTime(milliseconds * 1_000_000)
}

/// Attacks until the attacker is held, while these sources report. Returns what became of it, and the number of
/// attempts. `delays` has how late each source reports each attempt, and `logs` is for [`reports`].
fn attack(way: Way, by: &[usize], delays: &[[u64; 3]], logs: &[bool]) -> (Kind, u32) {
    let mut controller = started_with(NoKernel::default(), |config| {
        config.jails.get_mut(JAIL).unwrap().unproven = Unproven::Throttle;
    });
    controller.add_source(ami(), at(0));
    controller.add_source(ami(), at(0));
    let source = way.source;
    if way.registers {
        controller.datapath.know(source, at(0)).unwrap();
    }
    if way.transport.proves_source() {
        controller.datapath.connections.insert((source, 40_000));
    }
    let start = 100_000;
    let mut waiting: Vec<(u64, usize, Attempt)> = Vec::new();
    let mut last = [0; 3];
    let (mut made, mut kind) = (0, Kind::Unseen);
    let end = u64::try_from(delays.len()).unwrap() * GAP + 10_000;
    for now in (start..start + end).step_by(10) {
        let number = (now - start) / GAP;
        let is_held =
            kind == Kind::Banned || kind == Kind::Throttled && !way.transport.proves_source();
        let place = usize::try_from(number).unwrap();
        if (now - start) % GAP == 0 && !is_held && place < delays.len() {
            made += 1;
            for (source, after, attempt) in reports(way, number, logs[place]) {
                // A source reports in order.
                last[source] = last[source].max(now + after + delays[place][source]);
                if by.contains(&source) {
                    waiting.push((last[source], source, attempt));
                }
            }
            let answers = !matches!(way.attack, Attack::Invent | Attack::Scan | Attack::Knock);
            if answers && by.contains(&WIRE) {
                let exchange = Exchange { proven_at: Some(at_ms(now)), ..Exchange::default() };
                controller.datapath.answered.insert(way.source, exchange);
            }
        }
        while controller.next_timeout().is_some_and(|due| due <= at_ms(now)) {
            controller.handle_timeout(at_ms(now));
        }
        let mut due: Vec<_> = waiting.extract_if(.., |(at, ..)| *at <= now).collect();
        due.sort_by_key(|(at, ..)| *at);
        for (_, source, attempt) in due {
            controller.observe(&attempt, source, JAIL, at_ms(now));
        }
        let scopes = controller.bans.ledger().iter().map(|entry| entry.ban.scope);
        let kinds = scopes.map(|scope| match scope {
            Scope::Throttle => Kind::Throttled,
            Scope::Sip | Scope::Ports(_) | Scope::All => Kind::Banned,
        });
        kind = kinds.fold(kind, Kind::max);
    }
    (kind, made)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn another_source_never_makes_the_answer_weaker(
        which in 0..ATTACKS.len(),
        over_tcp in any::<bool>(),
        over_ipv6 in any::<bool>(),
        registers in any::<bool>(),
        delays in proptest::collection::vec([0..400_u64, 0..400_u64, 0..400_u64], 60),
        logs in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let way = Way {
            attack: ATTACKS[which],
            source: if over_ipv6 { "2001:db8::66".parse().unwrap() } else { [203, 0, 113, 5].into() },
            transport: if over_tcp { Transport::Tcp } else { Transport::Udp },
            registers: registers && ATTACKS[which] == Attack::Dial,
        };
        let sets: [&[usize]; 7] =
            [&[LOG], &[WIRE], &[AMI], &[LOG, WIRE], &[LOG, AMI], &[WIRE, AMI], &[LOG, WIRE, AMI]];
        let found = sets.map(|set| attack(way, set, &delays, &logs));
        for (set, (kind, made)) in sets.iter().zip(found) {
            for (more, (then, after)) in sets.iter().zip(found) {
                if set.iter().all(|source| more.contains(source)) {
                    let says = format!("{way:?}: {set:?} {kind:?} {made}, {more:?} {then:?} {after}");
                    prop_assert!(then >= kind, "{says}");
                    prop_assert!(kind == Kind::Unseen || then > kind || after <= made + LATER, "{says}");
                }
            }
        }
        if way.attack == Attack::Dial {
            prop_assert_eq!(found[1], (Kind::Banned, found[6].1));
        }
    }
}
