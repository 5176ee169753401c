//! The line in which held reads wait for their turn: one for each bucket, first come, first served. Reads that are equal
//! stand in one place and share one turn. Only whoever stands at the front looks at the clock; when it goes, or leaves,
//! the next one is told. Nobody asks again and again.

use std::collections::{BTreeMap, VecDeque};

/// The lines of many buckets. `R` tells which reads are equal, `T` is how somebody in line is told.
#[derive(Debug)]
pub struct Turns<R, T> {
    lines: BTreeMap<u64, VecDeque<Group<R, T>>>,
    tickets: u64,
}

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    bucket: u64,
    ticket: u64,
}

/// What somebody in line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Stands at the front: waits for the time of the turn and takes it.
    Front,
    /// Waits to be told; so many turns come before its own.
    Behind(usize),
    /// Is no longer in line: its turn was taken by the front of its place.
    Gone,
}

/// Equal reads in one place; the first of them acts for all.
#[derive(Debug)]
struct Group<R, T> {
    read: Option<R>,
    members: VecDeque<(u64, T)>,
}

// === impl Turns ===

impl<R: PartialEq, T: Clone> Turns<R, T> {
    /// Puts somebody in line: among its equals where there are any, else at the end.
    pub fn enter(&mut self, bucket: u64, read: Option<R>, told: T) -> Place {
        self.tickets += 1;
        let member = (self.tickets, told);
        let line = self.lines.entry(bucket).or_default();
        match line.iter_mut().find(|group| read.is_some() && group.read == read) {
            Some(group) => group.members.push_back(member),
            None => line.push_back(Group { read, members: VecDeque::from([member]) }),
        }
        Place { bucket, ticket: self.tickets }
    }

    /// What the holder of a place does now.
    pub fn role(&self, place: Place) -> Role {
        let groups = self.lines.get(&place.bucket).into_iter().flatten().enumerate();
        for (ahead, group) in groups {
            if let Some(at) = group.members.iter().position(|(ticket, _)| *ticket == place.ticket) {
                return if (ahead, at) == (0, 0) { Role::Front } else { Role::Behind(ahead) };
            }
        }
        Role::Gone
    }

    /// The front takes its turn, and its equals with it. Who is to be told: those who go along, and the new front.
    pub fn go(&mut self, place: Place) -> (Vec<T>, Option<T>) {
        if self.role(place) != Role::Front {
            return (Vec::new(), None);
        }
        let Some(line) = self.lines.get_mut(&place.bucket) else { return (Vec::new(), None) };
        let along = line.pop_front().into_iter().flat_map(|group| group.members.into_iter().skip(1));
        let along = along.map(|(_, told)| told).collect();
        (along, self.front(place.bucket))
    }

    /// Somebody leaves the line. Who is to be told: the new front, where the old one left.
    pub fn leave(&mut self, place: Place) -> Option<T> {
        let was_front = self.role(place) == Role::Front;
        let line = self.lines.get_mut(&place.bucket)?;
        for group in line.iter_mut() {
            group.members.retain(|(ticket, _)| *ticket != place.ticket);
        }
        line.retain(|group| !group.members.is_empty());
        let front = self.front(place.bucket);
        if was_front { front } else { None }
    }

    /// Whether anybody waits for this bucket.
    pub fn is_waiting(&self, bucket: u64) -> bool {
        self.lines.contains_key(&bucket)
    }

    /// Whether nobody waits for any.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Who stands at the front of a line; a line without anybody is taken away.
    fn front(&mut self, bucket: u64) -> Option<T> {
        let front = self.lines.get(&bucket)?.front().and_then(|group| group.members.front());
        let front = front.map(|(_, told)| told.clone());
        if front.is_none() {
            self.lines.remove(&bucket);
        }
        front
    }
}

impl<R, T> Default for Turns<R, T> {
    fn default() -> Turns<R, T> {
        Turns { lines: BTreeMap::new(), tickets: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns_are_taken_in_the_order_of_coming_and_equals_go_together() {
        let mut turns = Turns::default();
        let [first, second, equal, third] =
            [(1, "a"), (2, "b"), (3, "a"), (4, "c")].map(|(who, read)| turns.enter(7, Some(read), who));
        assert_eq!(turns.role(first), Role::Front);
        assert_eq!(turns.role(equal), Role::Behind(0), "it shares the first turn");
        assert_eq!((turns.role(second), turns.role(third)), (Role::Behind(1), Role::Behind(2)));
        assert_eq!(turns.go(second), (vec![], None), "only the front goes");
        assert_eq!(turns.go(first), (vec![3], Some(2)));
        assert_eq!((turns.role(equal), turns.role(second)), (Role::Gone, Role::Front));
        assert_eq!(turns.leave(second), Some(4));
        assert_eq!(turns.go(third), (vec![], None));
        assert!(turns.is_empty());
    }

    #[test]
    fn where_the_front_leaves_its_equal_takes_the_place() {
        let mut turns = Turns::default();
        let [first, equal, other] =
            [("x", 1), ("x", 2), ("y", 3)].map(|(read, who)| turns.enter(1, Some(read), who));
        assert_eq!(turns.leave(first), Some(2));
        assert_eq!(turns.role(equal), Role::Front);
        assert_eq!(turns.leave(other), None, "the front stays");
        assert_eq!(turns.leave(equal), None);
        assert!(!turns.is_waiting(1));
    }

    #[test]
    fn reads_that_nobody_can_compare_have_a_turn_each() {
        let mut turns: Turns<u8, u8> = Turns::default();
        let places = [1, 2].map(|who| turns.enter(1, None, who));
        assert_eq!(turns.go(places[0]), (vec![], Some(2)));
    }

    proptest! {
        /// Whatever comes, goes and leaves: each line has exactly one front, it is told when it becomes one, and nobody is
        /// lost.
        #[test]
        fn there_is_always_one_front_and_it_knows(steps in prop::collection::vec((0..4u8, 0..3u64, 0..3u8, 0..8usize), 1..120)) {
            let mut turns: Turns<u8, u64> = Turns::default();
            let mut inside: Vec<(Place, u64)> = Vec::new();
            let mut knows: BTreeMap<u64, u64> = BTreeMap::new();
            for (number, (step, bucket, read, which)) in steps.into_iter().enumerate() {
                let who = number as u64;
                match step {
                    0 | 1 => {
                        let place = turns.enter(bucket, (read > 0).then_some(read), who);
                        // Whoever enters looks at its role itself.
                        if turns.role(place) == Role::Front {
                            knows.insert(bucket, who);
                        }
                        inside.push((place, who));
                    }
                    2 if !inside.is_empty() => {
                        let (place, who) = inside.remove(which % inside.len());
                        if let Some(front) = turns.leave(place) {
                            knows.insert(place.bucket, front);
                        } else if knows.get(&place.bucket) == Some(&who) {
                            knows.remove(&place.bucket);
                        }
                    }
                    _ => {
                        let front = inside.iter().position(|(place, _)| turns.role(*place) == Role::Front);
                        if let Some(at) = front {
                            let (place, _) = inside.remove(at);
                            let (along, next) = turns.go(place);
                            inside.retain(|(_, who)| !along.contains(who));
                            match next {
                                Some(next) => knows.insert(place.bucket, next),
                                None => knows.remove(&place.bucket),
                            };
                        }
                    }
                }
                for (place, who) in &inside {
                    let role = turns.role(*place);
                    prop_assert_ne!(role, Role::Gone, "nobody is lost");
                    prop_assert_eq!(role == Role::Front, knows.get(&place.bucket) == Some(who));
                }
            }
        }
    }
}
