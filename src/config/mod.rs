//! config.toml -> [`Config`] (validated, all problems at once) -> [`Policy`] (compiled, immutable snapshot).
//!
//! A request keeps the policy it started with from its first step to its last.

mod model;

pub use model::*;
