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
    ignore: Vec<Vec<u8>>,
    unordered: Vec<Vec<u8>>,
}

// === impl Rules ===

impl Rules {
    /// Compiles a route's `ignore` and `unordered`. `decoded_bytes_max` bounds what an encoded body may decode to for
    /// the fingerprint; past it the encoded bytes count as they are.
    ///
    /// `$` in `ignore` has no effect: to ignore the whole body would make all bodies equal.
    pub fn new(ignore: &[JsonPath], unordered: &[JsonPath], decoded_bytes_max: usize) -> Rules {
        let names = |paths: &[JsonPath]| {
            paths.iter().filter_map(JsonPath::field).map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>()
        };
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
        self.ignore.iter().any(|ignored| ignored == name)
    }

    /// Sorts the values of each unordered name over the places that fields of this name hold.
    pub(super) fn sort_unordered<T, V: Ord + Default>(
        &self,
        fields: &mut [T],
        name: impl Fn(&T) -> &[u8],
        value: impl Fn(&mut T) -> &mut V,
    ) {
        for unordered in &self.unordered {
            let places: Vec<usize> =
                (0..fields.len()).filter(|place| name(&fields[*place]) == unordered).collect();
            let mut values: Vec<V> =
                places.iter().map(|place| std::mem::take(value(&mut fields[*place]))).collect();
            values.sort_unstable();
            places.iter().zip(values).for_each(|(place, sorted)| *value(&mut fields[*place]) = sorted);
        }
    }
}
