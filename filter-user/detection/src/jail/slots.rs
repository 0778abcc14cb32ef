//! A vector whose items come and go and are referred to by number. Free numbers are used again.

use std::num::NonZeroU32;

/// The number of an item, or none; no larger than a plain number.
pub(super) type Link = Option<NonZeroU32>;

/// Items by number. It grows by an eighth, not to twice its size, so that little memory is unused.
#[derive(Debug)]
pub(super) struct Slots<T> {
    /// The item with number `n` is at `n - 1`.
    items: Vec<Option<T>>,
    free: Vec<NonZeroU32>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Adds `item` and returns its number; `None` if all four thousand million are in use.
    pub(super) fn insert(&mut self, item: T) -> Link {
        if let Some(number) = self.free.pop() {
            *self.slot(number)? = Some(item);
            return Some(number);
        }
        let number = u32::try_from(self.items.len()).ok()?.checked_add(1)?;
        if self.items.len() == self.items.capacity() {
            self.items.reserve_exact((self.items.len() / 8).max(16));
        }
        self.items.push(Some(item));
        NonZeroU32::new(number)
    }

    pub(super) fn get(&self, number: NonZeroU32) -> Option<&T> {
        self.items.get(index(number)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: NonZeroU32) -> Option<&mut T> {
        self.slot(number)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: NonZeroU32) -> Option<T> {
        let item = self.slot(number)?.take()?;
        self.free.push(number);
        if self.free.len() == self.items.len() {
            *self = Self::new(); // Frees the memory that a flood needed.
        }
        Some(item)
    }

    fn slot(&mut self, number: NonZeroU32) -> Option<&mut Option<T>> {
        self.items.get_mut(index(number)?)
    }
}

fn index(number: NonZeroU32) -> Option<usize> {
    usize::try_from(number.get() - 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again() {
        let mut slots = Slots::new();
        let numbers: Vec<NonZeroU32> = (0..100).filter_map(|n| slots.insert(n)).collect();
        assert_eq!((slots.len(), slots.get(numbers[7])), (100, Some(&7)));
        assert_eq!((slots.remove(numbers[7]), slots.remove(numbers[7])), (Some(7), None));
        assert_eq!((slots.len(), slots.get(numbers[7])), (99, None));
        assert_eq!(slots.insert(200), Some(numbers[7]));
        assert!(slots.items.capacity() < 120);
    }

    #[test]
    fn many_items_are_moved_few_times_and_waste_little() {
        let mut slots = Slots::new();
        let mut capacities = std::collections::BTreeSet::new();
        for items in 1..=4096 {
            slots.insert(items);
            assert!(slots.items.capacity() <= items + items / 8 + 16);
            capacities.insert(slots.items.capacity());
        }
        assert!(capacities.len() < 50, "{capacities:?}");
    }

    #[test]
    fn empty_slots_take_no_memory() {
        let mut slots = Slots::new();
        let numbers: Vec<NonZeroU32> = (0..100).filter_map(|n| slots.insert(n)).collect();
        for number in numbers {
            assert!(slots.remove(number).is_some());
        }
        assert_eq!((slots.len(), slots.items.capacity(), slots.free.capacity()), (0, 0, 0));
    }
}
