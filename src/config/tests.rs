//! The configuration as a whole: golden reports of what is wrong, and the list of keys against the reader, the
//! documentation and the example.

use super::*;
use crate::config::keys::{KEYS, Kind};
use std::path::PathBuf;
use std::time::Duration;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn env(name: &str) -> Option<String> {
    (name == "SECRET_URL").then(|| "ftp://ann:hunter2@example.com".into())
}

fn report(text: &str) -> Problems {
    match validate(text, "config.toml", &repository("tests/config"), &env) {
        Ok(loaded) => loaded.notices,
        Err(problems) => problems,
    }
}

/// Compares a report with its golden text; `UPDATE_GOLDEN=1` writes it anew, to be looked at before it is committed.
fn golden(name: &str) -> String {
    let report = report(&read(&format!("tests/config/{name}.toml")));
    let shown = format!("{report}\n{}\n", report.tally());
    let file = format!("tests/config/{name}.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(repository(&file), &shown).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    assert_eq!(shown, read(&file), "{file} differs");
    shown
}

/// The smallest file that can be used; `more` goes before its tables.
fn minimal(more: &str) -> String {
    format!(
        "{more}\n[[upstream]]\nname = \"a\"\nurl = \"http://127.0.0.1:8000\"\n[[route]]\nname = \"r\"\nmatch = \"POST /a\"\n\
         upstream = \"a\"\n[route.idempotency]\n"
    )
}

fn config(text: &str) -> Config {
    match validate(text, "config.toml", Path::new("conf"), &env) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}"),
    }
}

fn errors(text: &str) -> Vec<String> {
    let problems = report(text);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors
        .map(|problem| {
            format!("{}: {} ({})", problem.path, problem.message, problem.help.as_deref().unwrap_or(""))
        })
        .collect()
}

#[test]
fn every_mistake_of_a_file_is_shown_at_once() {
    golden("mistakes");
    golden("types");
    golden("missing");
}

#[test]
fn broken_toml_hides_neither_other_broken_lines_nor_mistakes() {
    let shown = golden("syntax");
    for line in [2, 3, 4, 7, 8, 9, 11, 13, 16] {
        assert!(shown.contains(&format!("config.toml:{line}:")), "line {line} has a problem:\n{shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn relations_between_values_are_checked() {
    golden("relations");
    golden("nothing");
    golden("nothing-guarded");
    golden("throttle");
}

#[test]
fn no_secret_is_ever_shown() {
    let shown = golden("secrets");
    assert!(!shown.contains("hunter2"), "{shown}");
    let problems = report(&read("tests/config/secrets.toml"));
    assert!(!format!("{problems:?}").contains("hunter2"), "not in debug output either");
    let loaded = config(&minimal(
        "[admin]\ntoken = \"hunter2-hunter2-hunter2\"\n[store]\nsecret = \"hunter2 and more of it\"",
    ));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(loaded.admin.token.as_ref().map(Secret::expose), Some("hunter2-hunter2-hunter2"));
}

#[test]
fn no_damage_to_the_file_shows_a_secret() {
    // A slip of the finger at every place of the file, of every kind that changes how the rest is read.
    let text = read("tests/config/secrets.toml");
    for (at, original) in text.char_indices() {
        let slips = ["", "\"", "'", "\n", "=", "[", "]", "{", "}", "#", ".", "é"];
        // A third of them at each place, another one at the next: all kinds meet all kinds of places.
        for slip in slips.into_iter().skip(at % 3).step_by(3) {
            let damaged = format!("{}{slip}{}", &text[..at], &text[at + original.len_utf8()..]);
            let shown = report(&damaged).to_string();
            let touched = text.get(at.saturating_sub(8)..at + 8).is_some_and(|near| near.contains("hunter2"));
            let leak = shown.lines().find(|line| !touched && line.contains("hunter2"));
            assert_eq!(leak, None, "{slip:?} at {at}");
        }
    }
}

#[test]
fn every_part_of_the_contract_that_is_not_built_is_refused_by_name() {
    let shown = golden("later");
    for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Later(_))) {
        let name = document::join(key.table, key.name);
        assert!(shown.contains(&format!("`{name}` is not supported yet")), "{name}");
    }
}

#[test]
fn the_contract_without_what_is_not_built_is_accepted() {
    golden("sketch");
    let sketch = read("tests/config/sketch.toml");
    let later = |header: &str| {
        KEYS.iter()
            .any(|key| matches!(key.kind, Kind::Later(_)) && document::join(key.table, key.name) == header)
    };
    let mut kept = String::new();
    let mut skipping = false;
    for line in sketch.lines() {
        if let Some(header) = line.strip_prefix('[') {
            skipping = later(header.trim_start_matches('[').split(']').next().unwrap_or_default());
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        if !skipping && !later(&format!("route.{key}")) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    let config = config(&kept);
    assert_eq!(config.routes.len(), 4);
    let rules = config.routes[0].idempotency.as_ref().expect("the sketch guards its first route");
    assert_eq!(
        (rules.key, rules.remember, rules.wait),
        (KeyRule::HeaderOrFingerprint, Duration::from_secs(86_400), Duration::from_secs(15))
    );
    assert_eq!(config.upstreams[0].urls[0].port, 8000);
}

#[test]
fn every_default_is_what_the_file_would_say() {
    // Each default, written out, gives the same configuration as nothing at all.
    let mut text = String::new();
    let header = |table: &str| match table {
        "" => String::new(),
        "upstream" | "route" => format!("[[{table}]]\n"),
        _ => format!("[{table}]\n"),
    };
    for table in ["", "server", "admin", "log", "store", "clients", "upstream", "route", "route.idempotency"]
    {
        text.push_str(&header(table));
        match table {
            "upstream" => text.push_str("name = \"a\"\nurl = \"http://127.0.0.1:8000\"\n"),
            "route" => text.push_str("name = \"r\"\nmatch = \"POST /a\"\nupstream = \"a\"\n"),
            _ => {}
        }
        for key in KEYS.iter().filter(|key| key.table == table) {
            let Some(default) = key.default else { continue };
            let plain = matches!(key.kind, Kind::Count(..) | Kind::Switch) || default.starts_with('[');
            text.push_str(&if plain {
                format!("{} = {default}\n", key.name)
            } else {
                format!("{} = \"{default}\"\n", key.name)
            });
        }
    }
    assert_eq!(format!("{:?}", config(&text)), format!("{:?}", config(&minimal(""))));
}

#[test]
fn slots_that_cannot_be_kept_are_refused() {
    let shown = golden("slots");
    for wrong in
        ["cannot go together with a slot", "names nothing in", "the same capacity", "did you mean \"nurse\"?"]
    {
        assert!(shown.contains(wrong), "{wrong}\n{shown}");
    }
}

#[test]
fn every_listed_key_is_read() {
    // A date is never right, so a key that is read complains, and one that is not is silent.
    for key in KEYS.iter().filter(|key| !matches!(key.kind, Kind::Later(_))) {
        let line = format!("{} = 1979-05-27\n", key.name);
        let (text, path) = match key.table {
            "" if key.name == "upstream" || key.name == "route" => (line, key.name.to_owned()),
            "" => (minimal(&line), key.name.into()),
            "upstream" => (format!("[[upstream]]\n{line}"), format!("upstream[0].{}", key.name)),
            "route" => (format!("[[route]]\n{line}"), format!("route[0].{}", key.name)),
            "server.tls.certificate" => {
                (minimal(&format!("[[{}]]\n{line}", key.table)), format!("{}[0].{}", key.table, key.name))
            }
            "upstream.tls" => {
                (format!("[[upstream]]\n[upstream.tls]\n{line}"), format!("upstream[0].tls.{}", key.name))
            }
            "route.idempotency" => (minimal("") + &line, format!("route[0].idempotency.{}", key.name)),
            "route.slot" | "route.release" => {
                let text = minimal("") + &format!("[[{}]]\n{line}", key.table);
                (text, format!("route[0].{}[0].{}", key.table.trim_start_matches("route."), key.name))
            }
            "route.slot.recover" => {
                let text = minimal("") + &format!("[[route.slot]]\n[{}]\n{line}", key.table);
                (text, format!("route[0].slot[0].recover.{}", key.name))
            }
            table if table.starts_with("route.") => {
                let path = format!("{}.{}", table.replacen("route", "route[0]", 1), key.name);
                (minimal("") + &format!("[{table}]\n{line}"), path)
            }
            table => (minimal(&format!("[{table}]\n{line}")), format!("{table}.{}", key.name)),
        };
        let found = errors(&text);
        assert!(
            found.iter().any(|error| error.starts_with(&format!("{path}: expected"))),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn documentation_and_list_of_keys_agree() {
    let text = read("docs/config.md");
    let mut table = "";
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            table = if title == "Top level" { "" } else { title.trim_matches(['`', '[', ']']) };
        } else if let Some(row) = line.strip_prefix("| `").map(|_| line) {
            let cells: Vec<_> = row.trim_start_matches("| ").trim_end_matches(" |").split(" | ").collect();
            assert_eq!(cells.len(), 4, "{line}");
            rows.push((table, cells[0].trim_matches('`'), cells[2], cells[3]));
        }
    }
    let supported: Vec<_> = KEYS.iter().filter(|key| !matches!(key.kind, Kind::Later(_))).collect();
    let documented: Vec<_> = rows.iter().map(|(table, name, ..)| (*table, *name)).collect();
    assert_eq!(documented, supported.iter().map(|key| (key.table, key.name)).collect::<Vec<_>>());
    for (key, (table, name, default, values)) in supported.iter().zip(rows) {
        if let Some(expected) = key.default {
            assert_eq!(default, format!("`{expected}`"), "default of {table}.{name}");
        }
        let expected = match key.kind {
            Kind::Duration(low, high) | Kind::Size(low, high) => format!("`{low}` to `{high}`"),
            Kind::Count(low, high) => format!("{low} to {high}"),
            Kind::Switch => "`true`, `false`".into(),
            Kind::Choice(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            _ => continue,
        };
        assert_eq!(values, expected, "values of {table}.{name}");
    }
    for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Later(_))) {
        let name = format!("`{}`", document::join(key.table, key.name));
        assert!(text.split("## Not supported yet").nth(1).is_some_and(|rest| rest.contains(&name)), "{name}");
    }
}

#[test]
fn the_example_is_accepted_and_names_every_key() {
    let text = read("config.toml");
    let loaded = config(&text);
    assert_eq!(loaded.routes.len(), 4);
    for key in KEYS.iter().filter(|key| !matches!(key.kind, Kind::Later(_) | Kind::Table | Kind::Tables)) {
        let names = |line: &str| {
            line.trim_start_matches("# ").split_once('=').is_some_and(|(name, _)| name.trim() == key.name)
        };
        assert!(text.lines().any(names), "config.toml does not show {}.{}", key.table, key.name);
    }
}

#[test]
fn the_examples_comments_are_accepted_too() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("fingerprint-key"), "0123456789abcdef0123456789abcdef\n")
        .expect("writable");
    std::fs::write(directory.path().join("redis-password"), "only a password\n").expect("writable");
    std::fs::write(directory.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----\n").expect("writable");
    let keys = r#"{"keys":[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    std::fs::write(directory.path().join("jwks.json"), keys).expect("writable");
    let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    for (names, pem) in [
        (&["cert.pem", "shop.pem", "gateway.pem", "client-ca.pem", "ca.pem"][..], pair.cert.pem()),
        (&["key.pem", "shop-key.pem", "gateway-key.pem"], pair.signing_key.serialize_pem()),
    ] {
        names.iter().for_each(|name| std::fs::write(directory.path().join(name), &pem).expect("writable"));
    }
    let mut text = String::new();
    for line in read("config.toml").lines() {
        // `# key = value` and `# [table]` are examples; everything else behind `# ` is prose.
        let code = line.strip_prefix("# ").filter(|rest| {
            rest.starts_with('[')
                || rest.split_once(" = ").is_some_and(|(key, _)| KEYS.iter().any(|known| known.name == key))
        });
        // The two kinds of keys exclude each other, and a default that is written twice is a duplicate.
        if !line.contains("JWT_SECRET") {
            text.push_str(code.unwrap_or(line));
            text.push('\n');
        }
    }
    let env = |name: &str| (name == "ONCEGATE_ADMIN_TOKEN").then(|| "a long enough token".to_owned());
    let loaded = validate(&text, "config.toml", directory.path(), &env)
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.config.clients.jwt.is_some());
    assert_eq!(
        loaded.config.store.secret.as_ref().map(|secret| secret.expose().len()),
        Some(32),
        "the line's end is cut"
    );
    assert_eq!(loaded.config.upstreams[0].total, Some(Duration::from_secs(600)));
}

#[test]
fn keys_of_a_jwk_set_that_cannot_verify_are_told_of_and_some_have_to_be_left() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let check = |keys: &str| {
        let set = format!("{{\"keys\":[{keys}]}}");
        std::fs::write(directory.path().join("jwks.json"), set).expect("writable");
        let text = minimal("[clients.jwt]\njwks = \"jwks.json\"");
        validate(&text, "config.toml", directory.path(), &|_| None)
            .map(|loaded| loaded.notices.to_string())
            .map_err(|problems| problems.to_string())
    };
    let known = r#"{"kty":"oct","k":"c2VjcmV0c2VjcmV0"}"#;
    let unknown = r#"{"kty":"OKP","crv":"Ed448","x":"AAAA"},{"kty":"oct","k":"no base64!"}"#;
    let told = check(&format!("{known},{unknown}")).expect("one is left");
    assert!(told.contains("2 of the JWK set's 3 keys cannot be used"), "{told}");
    assert!(!check(known).expect("it is good").contains("JWK"));
    assert!(check(unknown).expect_err("none is left").contains("no key that can verify"));
}

#[test]
fn variables_reach_every_kind_of_value() {
    let env = |name: &str| match name {
        "PORT" => Some("8123".to_owned()),
        "YES" => Some("true".into()),
        _ => None,
    };
    let text = minimal(
        "[server]\nlisten = \"127.0.0.1:${PORT}\"\nconnections_max = \"${PORT}\"\nvia = \"${YES}\"\ndrain = \"${NOPE}\"",
    );
    let problems = validate(&text, "config.toml", Path::new(""), &env).expect_err("NOPE is not set");
    let messages: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    assert_eq!(messages.len(), 1, "{problems}");
    assert!(messages[0].message.contains("`NOPE`") && messages[0].path == "server.drain");
    let text = text.replace("${NOPE}", "5s");
    let server = validate(&text, "config.toml", Path::new(""), &env)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
        .server;
    assert_eq!((server.listen[0].port(), server.connections_max, server.via), (8123, 8123, true));
}

#[test]
fn doubt_is_kept_as_long_as_the_answer_would_have_been() {
    let kept = |more: &str| {
        config(&(minimal("") + more)).routes[0].idempotency.as_ref().map(|rules| rules.in_doubt_for)
    };
    let day = Duration::from_secs(86_400);
    assert_eq!(kept(""), Some(day));
    assert_eq!(kept("remember = \"90d\""), Some(90 * day));
    assert_eq!(kept("remember_fingerprint = \"2d\""), Some(2 * day));
    assert_eq!(kept("remember = \"1h\"\nin_doubt_for = \"1h\""), Some(day / 24));
    let found = errors(&(minimal("") + "remember = \"90d\"\nin_doubt_for = \"1d\""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`in_doubt_for` (24h) is shorter than `remember` (90d)"), "{found:?}");
}

#[test]
fn ports_that_are_given_at_the_start_never_collide() {
    let server = "[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"";
    assert_eq!(errors(&minimal(server)), Vec::<String>::new());
}

#[test]
fn an_admin_address_that_others_reach_needs_a_token() {
    let admin = |more: &str| errors(&minimal(&format!("[admin]\n{more}")));
    for listen in ["0.0.0.0:9090", "10.0.0.1:9090", "[::]:9090"] {
        let found = admin(&format!("listen = \"{listen}\""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("admin.listen") && found[0].contains("no `token`"), "{found:?}");
        assert_eq!(
            admin(&format!("listen = \"{listen}\"\ntoken = \"a long enough token\"")),
            Vec::<String>::new()
        );
    }
    for listen in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
        assert_eq!(admin(&format!("listen = \"{listen}\"")), Vec::<String>::new());
    }
}

#[test]
fn the_header_of_the_requests_id_is_none_that_frames_a_message() {
    for name in ["Content-Length", "host", "Connection", "Transfer-Encoding", "Content_Length", "Upgrade"] {
        let wrong = errors(&minimal(&format!("[server]\nrequest_id_header = \"{name}\"")));
        assert!(wrong.len() == 1 && wrong[0].contains("where a message ends"), "{name}: {wrong:?}");
    }
    assert!(errors(&minimal("[server]\nrequest_id_header = \"X-Host\"")).is_empty());
}

#[test]
fn a_route_that_waits_less_than_a_connection_may_take_is_pointed_out() {
    let with = |timeout: &str| {
        let route = format!("name = \"r\"\ntimeout = \"{timeout}\"");
        let report = report(&minimal("").replace("name = \"r\"", &route));
        report.iter().filter(|problem| problem.path == "route[0].timeout").count()
    };
    assert_eq!((with("1s"), with("2s")), (1, 0));
}

#[test]
fn relative_paths_start_from_the_files_directory() {
    assert_eq!(
        config(&minimal("[store]\nurl = \"file:data\"")).store.url,
        StoreUrl::File(PathBuf::from("conf/data"))
    );
    assert_eq!(
        config(&minimal("[store]\nurl = \"file:/data\"")).store.url,
        StoreUrl::File(PathBuf::from("/data"))
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let problem = |path: &Path| load(path).expect_err("unreadable").to_string();
    assert!(problem(&directory.path().join("none.toml")).contains("cannot be opened"));
    let path = directory.path().join("latin.toml");
    std::fs::write(&path, b"a = 1\nb = \"\xff\"").expect("writable");
    assert!(problem(&path).contains("not UTF-8: look at line 2"));
    std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).expect("writable");
    assert!(problem(&path).contains("larger than 1MiB"));
}

#[test]
fn lines_end_as_they_do_on_windows() {
    let text = minimal("[server]\ndrain = \"5x\"").replace('\n', "\r\n");
    let shown = report(&text).to_string();
    assert!(shown.contains("2 | drain = \"5x\"\n  |         ^^^^ server.drain\n"), "{shown}");
    assert!(!shown.contains('\r'));
}

#[test]
fn an_upstream_has_at_most_sixty_four_servers() {
    let servers =
        |count: u32| (0..count).map(|n| format!("\"http://10.0.0.{n}:80\"")).collect::<Vec<_>>().join(", ");
    let text = |count| format!("[[upstream]]\nname = \"many\"\nurl = [{}]\n", servers(count));
    assert_eq!(errors(&minimal(&text(64))), Vec::<String>::new());
    let problems = errors(&minimal(&text(65)));
    assert!(problems.len() == 1 && problems[0].contains("65 servers"), "{problems:?}");
}
