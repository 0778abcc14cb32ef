use proptest::prelude::*;

use super::*;

fn key(n: u16) -> Key {
    Key::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])
}

fn at(second: u64) -> KernelTime {
    KernelTime(second * 1_000_000_000)
}

/// An item that records whether it has been visited.
#[derive(Debug)]
struct Item {
    at: Tick,
    visited: bool,
}

impl Dated for Item {
    fn at(&self) -> Tick {
        self.at
    }
}

impl Table<Item> {
    fn put(&mut self, key: Key, items: &mut Vec<Item>, rank: u8) -> u64 {
        let forgotten = self.make_room(items.len(), drop);
        let newest = items.drain(..).fold(None, |newest, item| self.add(item, newest));
        self.enter(key, newest, rank);
        forgotten
    }

    /// Asserts that every link leads to the right place, that nothing is left over, and that no key
    /// after the current place of the visits has been visited.
    fn check(&self) {
        let (mut queued, mut nodes) = (0, 0);
        for (rank, queue) in self.queues.iter().enumerate() {
            let (mut before, mut place, mut is_behind) = (None, queue.first, false);
            while let Some(number) = place {
                let record = self.records.get(number).unwrap();
                assert_eq!((record.before, usize::from(record.rank)), (before, rank));
                assert_eq!(self.find(record.key), place);
                is_behind |= queue.visit == place;
                for item in self.items(record.key) {
                    assert_eq!(item.visited, !is_behind);
                    nodes += 1;
                }
                queued += 1;
                (before, place) = (place, record.behind);
            }
            assert_eq!(queue.last, before);
            assert_eq!(is_behind, queue.visit.is_some());
        }
        assert_eq!(queued, self.records.len());
        assert_eq!(nodes, self.nodes.len());
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

fn keys_of(table: &Table<Item>) -> Vec<Key> {
    let mut keys: Vec<Key> = table.keys().collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_table_for_one_key_has_the_last_one() {
    for capacity in [0, 1] {
        let mut table = Table::new(capacity, 0);
        for n in 0..3 {
            table.put(key(n), &mut vec![Item { at: at(0).into(), visited: false }], 0);
            table.check();
            assert_eq!(keys_of(&table), [key(n)]);
        }
    }
}

#[test]
fn a_rank_beyond_the_highest_is_the_highest() {
    let mut table = Table::new(2, 9);
    for (n, rank) in [(0, u8::MAX), (1, RANKS), (2, RANKS - 1), (3, RANKS - 2), (4, RANKS - 1)] {
        table.put(key(n), &mut vec![Item { at: at(0).into(), visited: false }], rank);
        table.check();
    }
    // The first ones of the highest rank were evicted, and the one of a lower rank.
    assert_eq!(keys_of(&table), [key(2), key(4)]);
}

#[test]
fn a_lookup_compares_few_keys() {
    let mut table = Table::new(4096, 4096);
    for n in 0..4096 {
        table.put(key(n), &mut vec![Item { at: at(0).into(), visited: false }], 0);
    }
    let chain = |first: &Link| {
        std::iter::successors(*first, |n| table.records.get(*n).unwrap().chain).count()
    };
    let longest = table.chains.iter().map(chain).max().unwrap();
    assert!(longest < 24, "{longest}");
}

/// What [`Table`] must remember, in the order of entry.
type Model = Vec<(Key, u8, Vec<u64>)>;

/// The definition: the lowest rank, and within it the key that was entered first.
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
    Visit(u8),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        8 => (0..60u16, 0..RANKS).prop_map(|(n, rank)| Step::Hear(n, rank)),
        1 => (0..60u16).prop_map(Step::Forget),
        1 => (0..5usize).prop_map(Step::ForgetOld),
        1 => (0..RANKS).prop_map(Step::Visit),
    ];
    proptest::collection::vec((0..3u64, step), 1..400)
}

proptest! {
    #[test]
    fn it_remembers_the_same_as_a_plain_list(capacity in 1..40usize, steps in steps()) {
        const FINDTIME: u64 = 50;
        let bound = capacity * 2 + 5;
        let mut table = Table::new(capacity, bound);
        let mut model = Model::new();
        let (mut now, mut items) = (0, Vec::new());
        for (gap, step) in steps {
            now += gap;
            match step {
                Step::Hear(n, rank) => {
                    let source = key(n);
                    let known = model.iter().position(|(key, ..)| *key == source);
                    let mut times = known.map(|k| model.remove(k).2).unwrap_or_default();
                    prop_assert_eq!(table.take(source, |item: Item| items.push(item)), !times.is_empty());
                    items.reverse();
                    for item in &mut items {
                        item.visited = false;
                    }
                    times.push(now);
                    items.push(Item { at: at(now).into(), visited: false });
                    let mut forgotten = 0;
                    let total = |model: &Model| model.iter().map(|(.., t)| t.len()).sum::<usize>();
                    let too_many = times.len().saturating_sub(bound);
                    times.drain(..too_many);
                    items.drain(..too_many);
                    while model.len() >= capacity
                        || (!model.is_empty() && total(&model) + times.len() > bound)
                    {
                        forget_first(&mut model);
                        forgotten += 1;
                    }
                    model.push((source, rank, times));
                    prop_assert_eq!(table.put(source, &mut items, rank), forgotten);
                }
                Step::Forget(n) => {
                    let before = model.len();
                    model.retain(|(source, ..)| *source != key(n));
                    let found = table.take(key(n), drop);
                    prop_assert_eq!(found, model.len() < before);
                }
                Step::ForgetOld(most) => {
                    let old = |model: &Model| {
                        let old = |(.., t): &&(_, _, Vec<u64>)| now - t.last().unwrap() >= FINDTIME;
                        model.iter().filter(old).count()
                    };
                    let before = old(&model);
                    table.forget_old(Duration::from_secs(FINDTIME), most, at(now), drop);
                    model.retain(|(source, ..)| table.items(*source).next().is_some());
                    prop_assert_eq!(old(&model), before.saturating_sub(most));
                }
                Step::Visit(rank) => {
                    let mut visited = 0;
                    table.visit(rank, |item| {
                        visited += usize::from(!std::mem::replace(&mut item.visited, true));
                        visited > 5
                    });
                }
            }
            table.check();
            prop_assert_eq!(table.len(), model.len());
            for (source, _, times) in &model {
                let told: Vec<Tick> = table.items(*source).map(|item| item.at).collect();
                let times: Vec<Tick> = times.iter().rev().map(|time| at(*time).into()).collect();
                prop_assert_eq!(told, times);
            }
        }
    }
}
