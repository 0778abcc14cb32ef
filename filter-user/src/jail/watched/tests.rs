use proptest::prelude::*;

use super::*;

fn address(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    if n.is_multiple_of(2) {
        IpAddr::from([192, 0, high, low])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])
    }
}

fn at(second: u64) -> KernelTime {
    KernelTime(second * 1_000_000_000)
}

fn failure(second: u64, name: Option<&str>) -> Failure {
    Failure {
        at: at(second).into(),
        class: Class::WrongCredential,
        proven: false,
        punished: false,
        teller: 0,
        account: None,
        name: name.map(Box::from),
    }
}

impl Watched {
    /// That every link leads where it should, and nothing is left over.
    fn check(&self) {
        let (mut queued, mut nodes, mut names) = (0, 0, 0);
        for (rank, queue) in self.queues.iter().enumerate() {
            let (mut before, mut place, mut may_have) = (None, queue.first, false);
            while let Some(number) = place {
                let record = self.records.get(number).unwrap();
                assert_eq!((record.before, usize::from(record.rank)), (before, rank));
                assert_eq!(self.find(record.address), place);
                may_have |= queue.named == place;
                let mut next = Some(record.newest);
                while let Some(node) = next.map(|number| self.nodes.get(number).unwrap()) {
                    assert!(may_have || node.name.is_none());
                    assert!(node.name.is_none_or(|name| self.names.get(name).is_some()));
                    names += usize::from(node.name.is_some());
                    nodes += 1;
                    next = node.older;
                }
                queued += 1;
                (before, place) = (place, record.behind);
            }
            assert_eq!(queue.last, before);
            assert_eq!(may_have, queue.named.is_some());
        }
        assert_eq!(queued, self.records.len());
        assert_eq!(nodes, self.nodes.len());
        assert_eq!(names, self.names.len());
        let chained: usize = self
            .chains
            .iter()
            .map(|first| {
                std::iter::successors(*first, |n| self.records.get(*n).unwrap().chain).count()
            })
            .sum();
        assert_eq!(chained, queued);
    }
}

/// What [`Watched`] is to remember, in the order in which it was told.
type Model = Vec<(IpAddr, u8, Vec<u64>)>;

/// The definition: the lowest rank, and of it the one that was told of first.
fn forget_first(model: &mut Model) {
    let lowest = model.iter().map(|(_, rank, _)| *rank).min().unwrap();
    let first = model.iter().position(|(_, rank, _)| *rank == lowest).unwrap();
    model.remove(first);
}

#[derive(Clone, Debug)]
enum Step {
    Hear(u16, u8),
    Forget(u16),
    ForgetOld(usize),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        8 => (0..60u16, 0..RANKS).prop_map(|(n, rank)| Step::Hear(n, rank)),
        1 => (0..60u16).prop_map(Step::Forget),
        1 => (0..5usize).prop_map(Step::ForgetOld),
    ];
    proptest::collection::vec((0..3u64, step), 1..400)
}

proptest! {
    #[test]
    fn it_remembers_what_a_plain_list_would(capacity in 1..40usize, steps in steps()) {
        const FINDTIME: u64 = 50;
        let mut watched = Watched::new(capacity, 5);
        let mut model = Model::new();
        let (mut now, mut failures) = (0, Vec::new());
        for (gap, step) in steps {
            now += gap;
            match step {
                Step::Hear(n, rank) => {
                    let source = address(n);
                    let known = model.iter().position(|(address, ..)| *address == source);
                    let mut times = known.map(|k| model.remove(k).2).unwrap_or_default();
                    prop_assert_eq!(watched.take(source, &mut failures), !times.is_empty());
                    times.push(now);
                    failures.push(failure(now, Some("1001")));
                    let mut forgotten = 0;
                    let total = |model: &Model| model.iter().map(|(.., t)| t.len()).sum::<usize>();
                    let bound = capacity * FAILURES_PER_SOURCE + 5;
                    times.drain(..times.len().saturating_sub(bound));
                    while model.len() >= capacity
                        || (!model.is_empty() && total(&model) + times.len() > bound)
                    {
                        forget_first(&mut model);
                        forgotten += 1;
                    }
                    model.push((source, rank, times));
                    prop_assert_eq!(watched.put(source, &mut failures, rank), forgotten);
                }
                Step::Forget(n) => {
                    let before = model.len();
                    model.retain(|(source, ..)| *source != address(n));
                    let found = watched.take(address(n), &mut failures);
                    prop_assert_eq!(found, model.len() < before);
                }
                Step::ForgetOld(most) => {
                    let old = |model: &Model| {
                        let old = |(.., t): &&(_, _, Vec<u64>)| now - t.last().unwrap() >= FINDTIME;
                        model.iter().filter(old).count()
                    };
                    let before = old(&model);
                    watched.forget_old(Duration::from_secs(FINDTIME), most, at(now));
                    model.retain(|(source, ..)| watched.last(*source).is_some());
                    prop_assert_eq!(old(&model), before.saturating_sub(most));
                }
            }
            watched.check();
            prop_assert_eq!(watched.len(), model.len());
            for (source, _, times) in &model {
                let told: Vec<Tick> = watched.failures(*source).iter().map(|f| f.at).collect();
                let times: Vec<Tick> = times.iter().map(|time| at(*time).into()).collect();
                prop_assert_eq!(told, times);
            }
        }
    }
}

#[test]
fn names_are_kept_for_those_nearest_to_a_ban() {
    let names_max = u16::try_from(NAMES_MAX / 2).unwrap();
    let mut watched = Watched::new(1_000_000, 15);
    let put = |watched: &mut Watched, source: IpAddr, rank: u8| {
        let mut failures = vec![failure(0, Some("1001")), failure(0, None), failure(0, Some("2"))];
        assert_eq!(watched.put(source, &mut failures, rank), 0);
    };
    let named = |watched: &Watched, source: IpAddr| {
        watched.failures(source).iter().filter(|f| f.name.is_some()).count()
    };
    for n in 0..names_max {
        put(&mut watched, address(n), 1 + u8::from(n == 7));
    }
    assert_eq!((watched.names.len(), named(&watched, address(0))), (NAMES_MAX, 2));
    // A rank that is lower has no room, one as high has that of the first, a higher that of the next.
    put(&mut watched, address(40_000), 0);
    assert_eq!(named(&watched, address(40_000)), 0);
    put(&mut watched, address(40_001), 1);
    put(&mut watched, address(40_002), 2);
    let have = [0, 1, 2, 7, 40_001, 40_002].map(|n| named(&watched, address(n)));
    assert_eq!(have, [0, 0, 2, 2, 2, 2]);
    assert_eq!(watched.names.len(), NAMES_MAX);
    watched.check();
}
