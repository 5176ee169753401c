//! A route's rules for the meaning of its bodies, compiled once with the policy.

use super::json::Paths;
use super::path::JsonPath;

/// What counts in a body, and how far an encoded one is decoded to find out.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) paths: Paths,
    pub(super) fields: FieldRules,
    pub(super) decoded_bytes_max: usize,
    pub(super) graphql: GraphqlRule,
}

/// Whether a JSON body may be a GraphQL request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GraphqlRule {
    /// A body that has the shape of a GraphQL request, and whose document parses, is one.
    #[default]
    Detect,
    /// JSON is JSON, whatever it looks like; every request is a write.
    Off,
}

/// The rules that address fields of forms, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldRules {
    ignore: Vec<FieldName>,
    unordered: Vec<FieldName>,
}

/// The names of a path. In forms `$.a.b` is `a[b]` and `a.b`, and the list `$.a` may be written as `a[]`, as selectors know
/// them; other than for them, upper and lower case are two, because to find a field too much here makes two intents one.
#[derive(Clone, Debug)]
struct FieldName(Vec<Vec<u8>>);

// === impl Rules ===

impl Rules {
    /// Compiles a route's `ignore` and `unordered`. `decoded_bytes_max` bounds what an encoded body may decode to for
    /// the fingerprint; past it the encoded bytes count as they are.
    ///
    /// `$` in `ignore` has no effect: to ignore the whole body would make all bodies equal.
    pub fn new(ignore: &[JsonPath], unordered: &[JsonPath], decoded_bytes_max: usize) -> Rules {
        let names = |paths: &[JsonPath]| paths.iter().filter_map(FieldName::of).collect::<Vec<_>>();
        Rules {
            paths: Paths::new(ignore, unordered),
            fields: FieldRules { ignore: names(ignore), unordered: names(unordered) },
            decoded_bytes_max,
            graphql: GraphqlRule::default(),
        }
    }

    /// The same rules with another reading of GraphQL.
    pub fn with_graphql(self, graphql: GraphqlRule) -> Rules {
        Rules { graphql, ..self }
    }
}

// === impl FieldRules ===

impl FieldRules {
    /// Whether a field of this name does not count.
    pub(super) fn ignores(&self, name: &[u8]) -> bool {
        self.ignore.iter().any(|ignored| ignored.is(name))
    }

    /// Sorts the values of each unordered name over the places that fields of this name hold: each spelling of it by itself,
    /// because to a backend that does not know one of them it is another field.
    pub(super) fn sort_unordered<T, V: Ord + Default>(
        &self,
        fields: &mut [T],
        name: impl Fn(&T) -> &[u8],
        value: impl Fn(&mut T) -> &mut V,
    ) {
        let mut names: Vec<Vec<u8>> = fields
            .iter()
            .map(&name)
            .filter(|name| self.unordered.iter().any(|unordered| unordered.is(name)))
            .map(<[u8]>::to_vec)
            .collect();
        names.sort_unstable();
        names.dedup();
        for unordered in &names {
            let places: Vec<usize> =
                (0..fields.len()).filter(|place| name(&fields[*place]) == unordered).collect();
            let mut values: Vec<V> =
                places.iter().map(|place| std::mem::take(value(&mut fields[*place]))).collect();
            values.sort_unstable();
            places.iter().zip(values).for_each(|(place, sorted)| *value(&mut fields[*place]) = sorted);
        }
    }
}

// === impl FieldName ===

impl FieldName {
    fn of(path: &JsonPath) -> Option<FieldName> {
        let names = path.names().filter(|names| !names.is_empty())?;
        Some(FieldName(names.into_iter().map(|name| name.as_bytes().to_vec()).collect()))
    }

    /// Whether a field's name is a spelling of it.
    fn is(&self, name: &[u8]) -> bool {
        matches!(self.behind(name), Some(b"" | b"[]"))
    }

    /// What a field's name has behind its words.
    fn behind<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        let (first, deeper) = self.0.split_first()?;
        deeper.iter().try_fold(name.strip_prefix(&**first)?, |rest, word| {
            let bracketed = || rest.strip_prefix(b"[")?.strip_prefix(&**word)?.strip_prefix(b"]");
            let dotted = || rest.strip_prefix(b".")?.strip_prefix(&**word);
            bracketed().or_else(dotted)
        })
    }
}
