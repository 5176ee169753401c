//! JSON as canonical text: one pass over the bytes, no tree. The result is itself JSON: no white space, members sorted by
//! name, strings with the fewest escapes (`\"`, `\\`, and `\u00xx` for control characters), numbers as they were sent.
//!
//! Numbers are never read as numbers: `1`, `1.0` and `1e0` stay three texts, because which of them a backend tells apart
//! is not known here, and 9007199254740993 would become its neighbour.

mod paths;
mod scan;
mod spelling;
mod walk;

#[cfg(test)]
mod tests;

pub(super) use paths::Paths;
pub use scan::plain_end;
pub(super) use spelling::unescaped;
pub use walk::{Node, Shape};

use super::{DEPTH_MAX, Doubtful};
use paths::{Effect, Match, Path};
use scan::Scan;
use spelling::{Brief, brief};
use std::cmp::Ordering;

/// Which of the paths still match at one place: a range of `Canonicaliser::open`. At depth d their first d steps have
/// matched.
#[derive(Clone, Copy)]
struct Open {
    from: usize,
    to: usize,
}

/// Where one member or element lies in the canonical text.
#[derive(Clone, Copy)]
struct Item {
    start: u32,
    /// Where its sort key ends: a member's name, or the whole of an element.
    key_end: u32,
    end: u32,
    /// Of a member's name; elements have none.
    brief: Brief,
    ignored: bool,
    /// Whether the name is spelled with escapes, so that it does not sort as it is spelled.
    escaped: bool,
}

struct Canonicaliser<'a> {
    scan: Scan<'a>,
    /// Items of the containers that are open at this moment, innermost last.
    items: Vec<Item>,
    /// Numbers of paths, see `Open`.
    open: Vec<usize>,
    /// Copy of a container while its items are put in order.
    spare: Vec<u8>,
    folds: Vec<u64>,
    paths: &'a [Path],
}

/// The canonical text of a JSON document, or the doubt that there is one.
pub(super) fn canonical(text: &[u8], paths: &Paths) -> Result<Vec<u8>, Doubtful> {
    // Offsets are kept in 32 bits, and an escape may grow threefold.
    if text.len() > u32::MAX as usize / 4 || std::str::from_utf8(text).is_err() {
        return Err(Doubtful);
    }
    let mut canonicaliser = Canonicaliser {
        scan: Scan::new(text),
        items: Vec::with_capacity(16),
        open: Vec::new(),
        spare: Vec::new(),
        folds: Vec::new(),
        paths: &paths.paths,
    };
    canonicaliser.document()?;
    Ok(canonicaliser.scan.into_written())
}

/// Compares two items of one container, whose text begins at the offset given with it.
type Order = fn(&[u8], usize, &Item, &Item) -> Ordering;

/// Order of two names by the bytes that they spell.
#[inline]
fn by_name(text: &[u8], base: usize, a: &Item, b: &Item) -> Ordering {
    a.brief.prefix.cmp(&b.brief.prefix).then_with(|| by_whole_name(text, base, a, b))
}

fn by_whole_name(text: &[u8], base: usize, a: &Item, b: &Item) -> Ordering {
    // Without its quotes: a closing quote would sort before or after the next character of a longer name.
    let name = |item: &Item| &text[item.start as usize - base + 1..item.key_end as usize - base - 1];
    if a.escaped || b.escaped { unescaped(name(a)).cmp(unescaped(name(b))) } else { name(a).cmp(name(b)) }
}

// === impl Canonicaliser ===

impl Canonicaliser<'_> {
    fn document(&mut self) -> Result<(), Doubtful> {
        let mut unordered = false;
        for (number, path) in self.paths.iter().enumerate() {
            match path.steps.is_empty() {
                // To ignore the root would make all documents equal.
                true => unordered |= path.effect.unordered,
                false => self.open.push(number),
            }
        }
        let open = Open { from: 0, to: self.open.len() };
        self.scan.white_space();
        self.value(0, open, unordered)?;
        self.scan.white_space();
        if self.scan.is_at_end() { Ok(()) } else { Err(Doubtful) }
    }

    /// One value; `depth` containers are around it.
    fn value(&mut self, depth: usize, open: Open, unordered: bool) -> Result<(), Doubtful> {
        match self.scan.peek() {
            Some(b'"') => self.scan.string().map(drop),
            Some(b'{') if depth < DEPTH_MAX => self.object(depth, open),
            Some(b'[') if depth < DEPTH_MAX => self.array(depth, open, unordered),
            Some(b'-' | b'0'..=b'9') => self.scan.number(),
            Some(b't') => self.scan.word(b"true"),
            Some(b'f') => self.scan.word(b"false"),
            Some(b'n') => self.scan.word(b"null"),
            _ => Err(Doubtful),
        }
    }

    fn object(&mut self, depth: usize, open: Open) -> Result<(), Doubtful> {
        let (start, base) = (self.scan.length(), self.items.len());
        let mut in_order = true;
        self.scan.begin();
        while !self.scan.ends(b'}', self.items.len() > base)? {
            let name_start = self.scan.length();
            if self.scan.peek() != Some(b'"') {
                return Err(Doubtful);
            }
            let escaped = self.scan.string()?;
            let key_end = self.scan.length();
            self.scan.white_space();
            self.scan.mark(b':')?;
            let (inner, effect) = self.enter(open, depth, |text, step| match step {
                Match::Name(name) => name == &text[name_start..key_end],
                _ => false,
            });
            self.value(depth + 1, inner, effect.unordered)?;
            self.open.truncate(inner.from);
            let item = Item {
                start: name_start as u32,
                key_end: key_end as u32,
                end: self.scan.length() as u32,
                brief: brief(&self.scan.written()[name_start + 1..key_end - 1], escaped),
                ignored: effect.ignored,
                escaped,
            };
            in_order &= !effect.ignored
                && self.items[base..]
                    .last()
                    .is_none_or(|last| by_name(self.scan.written(), 0, last, &item) == Ordering::Less);
            self.items.push(item);
        }
        // Ignored members too: with two of one name it is not known which of them a backend takes, and for what.
        self.distinct(base)?;
        match in_order {
            true => self.items.truncate(base),
            false => self.rearrange(start, base, Some(by_name)),
        }
        self.scan.end();
        Ok(())
    }

    fn array(&mut self, depth: usize, open: Open, unordered: bool) -> Result<(), Doubtful> {
        let (start, base) = (self.scan.length(), self.items.len());
        let mut ignores = false;
        let mut index = 0;
        self.scan.begin();
        while !self.scan.ends(b']', index > 0)? {
            let element_start = self.scan.length();
            let (inner, effect) = self.enter(open, depth, |_, step| match step {
                Match::Index(wanted) => *wanted == index,
                Match::Every => true,
                Match::Name(_) => false,
            });
            self.value(depth + 1, inner, effect.unordered)?;
            self.open.truncate(inner.from);
            ignores |= effect.ignored;
            // Without rules an array needs no items: most arrays stay as they were written.
            if unordered || open.from != open.to {
                let (start, end) = (element_start as u32, self.scan.length() as u32);
                self.items.push(Item {
                    start,
                    key_end: end,
                    end,
                    brief: Brief { prefix: 0, fold: 0 },
                    ignored: effect.ignored,
                    escaped: false,
                });
            }
            index += 1;
        }
        match (unordered, ignores) {
            (true, _) => self.rearrange(start, base, Some(by_element)),
            (false, true) => self.rearrange(start, base, None),
            (false, false) => self.items.truncate(base),
        }
        self.scan.end();
        Ok(())
    }

    /// Puts the items from `base` on in order, without the ignored ones, into the container that opens at `start`.
    fn rearrange(&mut self, start: usize, base: usize, order: Option<Order>) {
        let Canonicaliser { scan, items, spare, .. } = self;
        let out = scan.out();
        spare.clear();
        spare.extend_from_slice(&out[start..]);
        if let Some(order) = order {
            items[base..].sort_unstable_by(|a, b| order(spare, start, a, b));
        }
        out.truncate(start + 1);
        for item in items.drain(base..).filter(|item| !item.ignored) {
            if out.len() > start + 1 {
                out.push(b',');
            }
            out.extend_from_slice(&spare[item.start as usize - start..item.end as usize - start]);
        }
    }

    /// Refuses objects in which two names are equal, or would be to a decoder that does not look at case.
    fn distinct(&mut self, base: usize) -> Result<(), Doubtful> {
        let items = &self.items[base..];
        if items.len() <= 12 {
            let repeated = |(at, item): (usize, &Item)| {
                items[..at].iter().any(|earlier| earlier.brief.fold == item.brief.fold)
            };
            return if items.iter().enumerate().any(repeated) { Err(Doubtful) } else { Ok(()) };
        }
        self.folds.clear();
        self.folds.extend(items.iter().map(|item| item.brief.fold));
        self.folds.sort_unstable();
        if self.folds.windows(2).any(|pair| pair[0] == pair[1]) { Err(Doubtful) } else { Ok(()) }
    }

    /// The paths that go on inside the value about to be read, and what is to be done with the value itself.
    #[inline]
    fn enter(&mut self, open: Open, depth: usize, matches: impl Fn(&[u8], &Match) -> bool) -> (Open, Effect) {
        let from = self.open.len();
        let mut effect = Effect::default();
        for place in open.from..open.to {
            let number = self.open[place];
            let path = &self.paths[number];
            if !matches(self.scan.written(), &path.steps[depth]) {
                continue;
            }
            if path.steps.len() == depth + 1 {
                effect.ignored |= path.effect.ignored;
                effect.unordered |= path.effect.unordered;
            } else {
                self.open.push(number);
            }
        }
        (Open { from, to: self.open.len() }, effect)
    }
}

/// Order of two elements by their canonical text: equal ones stay as many as they are.
fn by_element(text: &[u8], base: usize, a: &Item, b: &Item) -> Ordering {
    let element = |item: &Item| &text[item.start as usize - base..item.end as usize - base];
    element(a).cmp(element(b))
}
