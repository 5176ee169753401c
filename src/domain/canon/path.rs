//! Field paths of the configuration, `$.a.b`, `$.items[*].x`, `$.items[0]`.

/// A path to values in a JSON body (or to a field of a form, by its name).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath {}
