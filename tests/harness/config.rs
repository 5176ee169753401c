//! A config.toml in the making. The fields are lines that go into its sections.

use std::net::SocketAddr;

/// What a test changes of the usual configuration.
#[derive(Clone, Default)]
pub struct Config {
    /// Lines before the first section.
    pub top: &'static str,
    /// Lines of `[server]`.
    pub server: &'static str,
    /// Where records live; `None` for the gate's own directory.
    pub store_url: Option<&'static str>,
    /// Lines of `[store]`.
    pub store: &'static str,
    /// Lines of `[clients]`.
    pub clients: &'static str,
    /// Lines of the upstream.
    pub upstream: &'static str,
    /// Routes before the guarded one.
    pub routes: &'static str,
    /// Lines of the guarded route's `[route.idempotency]`.
    pub idempotency: &'static str,
    /// Lines of the last route, which takes what no other does.
    pub rest: &'static str,
    /// Whether the backend is behind TLS.
    pub secure: bool,
    /// Where the backend is; `None` for the stand's own.
    pub backend: Option<SocketAddr>,
}

// === impl Config ===

impl Config {
    /// The file, with `{listen}`, `{admin}` and `{store}` left to the gate.
    pub fn text(&self, backend: SocketAddr) -> String {
        let Config { top, server, store, clients, upstream, routes, idempotency, rest, .. } = self;
        let store_url = self.store_url.unwrap_or("{store}");
        let (scheme, other) = (if self.secure { "https" } else { "http" }, self.backend);
        let backend = other.unwrap_or(backend);
        // Lines given twice are an error in TOML, so a default steps back where the test says something else.
        let unless = |given: &str, key: &str, line: &'static str| if given.contains(key) { "" } else { line };
        let lame_duck = unless(server, "lame_duck", "lame_duck = \"0s\"");
        let drain = unless(server, "drain", "drain = \"5s\"");
        let timeout = unless(upstream, "timeout", "timeout = \"5s\"");
        format!(
            r#"{top}
[server]
listen = "{{listen}}"
{lame_duck}
{drain}
{server}

[admin]
listen = "{{admin}}"

[log]
level = "info"
format = "json"

[store]
url = "{store_url}"
{store}

[clients]
{clients}

[[upstream]]
name = "scheduler"
url = "{scheme}://{backend}"
{timeout}
{upstream}

{routes}

[[route]]
name = "guarded"
match = ["POST /api/**", "PUT /api/**", "DELETE /api/**", "GET /assessments/new"]
upstream = "scheduler"

[route.idempotency]
{idempotency}

[[route]]
name = "rest"
match = "* /**"
upstream = "scheduler"
{rest}
"#
        )
    }
}
