use super::backend::{Asked, Said, Scripted};
use super::{Stand, counted};
use crate::harness::{Call, eventually};
use std::thread;
use std::time::Duration;

const LONG: &str = "coalesce = true\ncache = { ttl = \"60s\" }";

fn nonce(asked: &Asked) -> Said {
    Said::ok("", format!("nonce {}", asked.number))
}

fn get(target: &str) -> Call {
    Call::new("GET", target).header("Host", "h")
}

#[test]
fn a_kept_answer_is_given_again_with_its_age_and_a_status() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, LONG, "");
    let first = stand.send(&get("/a"));
    assert_eq!(first.header("cache-status"), Some("oncegate; fwd=miss; stored"));
    let second = stand.send(&get("/a"));
    assert_eq!((first.status, first.text()), (200, "nonce 1".into()));
    assert_eq!((second.status, second.text()), (200, "nonce 1".into()));
    assert!(second.header("cache-status").unwrap().starts_with("oncegate; hit; ttl="));
    assert!(second.header("age").is_some() && first.header("age").is_none());
    assert_eq!(second.header("date"), first.header("date"));
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(backend.count(), 1);
    assert_eq!((stand.decided("cached"), stand.decided("passed")), (1, 1));
    assert_eq!(stand.figure("oncegate_cache_stored_total"), 1);
    assert!(stand.figure("oncegate_cache_bytes ") > 100);
}

#[test]
fn the_workers_share_what_is_kept() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, LONG, "");
    // Each on a connection of its own, so both workers get some.
    for _ in 0..20 {
        assert_eq!(stand.send(&get("/a")).text(), "nonce 1");
    }
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, "coalesce = true", "");
    assert_eq!([stand.send(&get("/a")).text(), stand.send(&get("/a")).text()], ["nonce 1", "nonce 2"]);
    assert_eq!(stand.figure("oncegate_cache_stored_total"), 0);
}

#[test]
fn a_ttl_ends() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, "cache = { ttl = \"300ms\" }", "");
    assert_eq!([stand.send(&get("/a")).text(), stand.send(&get("/a")).text()], ["nonce 1", "nonce 1"]);
    eventually("it is asked for anew", || (stand.send(&get("/a")).text() == "nonce 2").then_some(()));
}

#[test]
fn a_head_is_answered_from_the_copy_of_a_get() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, LONG, "");
    stand.send(&get("/a"));
    let head = stand.send(&Call::new("HEAD", "/a").header("Host", "h"));
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("7"), 0));
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_client_that_has_the_answer_gets_a_304() {
    let backend = Scripted::start(|asked| match asked.target.as_str() {
        "/tagged" => Said::ok("ETag: \"v1\"\r\n", "body"),
        "/dated" => Said::ok("Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n", "body"),
        _ => Said::ok("", "body"),
    });
    let stand = Stand::new(backend.address, LONG, "");
    let plain = stand.send(&get("/plain"));
    let tag = plain.header("etag").expect("a tag of the gateway's own").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    for (target, name, value) in [
        ("/plain", "If-None-Match", tag.as_str()),
        ("/tagged", "If-None-Match", "\"v1\""),
        ("/tagged", "If-None-Match", "\"x\", W/\"v1\""),
        ("/dated", "If-Modified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ] {
        for round in 0..2 {
            let reply = stand.send(&get(target).header(name, value));
            assert_eq!((reply.status, reply.body.len()), (304, 0), "{target} {name}: {value}, {round}");
            assert!(reply.header("content-length").is_none() && reply.header("etag").is_some());
        }
        assert_eq!(stand.send(&get(target).header("If-None-Match", "\"other\"")).status, 200);
    }
    let conditional =
        |asked: &Asked| asked.header("if-none-match").or(asked.header("if-modified-since")).is_some();
    assert!(!backend.seen().iter().any(conditional), "others need the whole answer");
    assert_eq!(backend.count(), 3, "conditions do not reach the backend while the copy is fresh");
}

#[test]
fn a_stale_copy_is_confirmed_rather_than_fetched() {
    let backend = Scripted::start(|asked| {
        let headers = format!("ETag: \"v1\"\r\nCache-Control: max-age=0\r\nX-Round: {}\r\n", asked.number);
        match asked.header("if-none-match") {
            Some("\"v1\"") => Said::status(304, &headers, ""),
            _ => Said::ok(&headers, "the body"),
        }
    });
    let stand = Stand::new(backend.address, "cache = { }", "");
    assert_eq!(stand.send(&get("/a")).text(), "the body");
    let again = stand.send(&get("/a"));
    assert_eq!((again.status, again.text()), (200, "the body".into()));
    assert_eq!(again.header("x-round"), Some("2"), "the 304's headers replace the kept ones");
    assert_eq!(again.header("cache-status"), Some("oncegate; fwd=stale; fwd-status=304"));
    assert_eq!(stand.decided("revalidated"), 1);
    // The client's own condition is answered here, too.
    let reply = stand.send(&get("/a").header("If-None-Match", "\"v1\""));
    assert_eq!((reply.status, reply.header("x-round")), (304, Some("3")));
}

#[test]
fn a_304_that_sets_a_cookie_is_for_one_client_alone() {
    let backend = Scripted::start(|asked| match asked.header("if-none-match") {
        Some(_) => Said::status(304, "ETag: \"v1\"\r\nSet-Cookie: s=secret\r\n", ""),
        None => Said::ok("ETag: \"v1\"\r\nCache-Control: max-age=0\r\n", "the body"),
    });
    let stand = Stand::new(backend.address, "coalesce = true\ncache = { }", "");
    stand.send(&get("/a"));
    let renewed = stand.send(&get("/a"));
    assert_eq!((renewed.text(), renewed.header("set-cookie")), ("the body".into(), Some("s=secret")));
    let next = stand.send(&get("/a"));
    assert_eq!((next.text(), next.header("set-cookie")), ("the body".into(), None));
}

#[test]
fn a_copy_stands_in_for_a_backend_that_fails() {
    for failure in ["503", "broken"] {
        let backend = Scripted::start(move |asked| match asked.number {
            1 => nonce(asked),
            _ if failure == "503" => Said::status(503, "", "down"),
            _ => Said {
                by_hand: Some(|stream| drop(stream.shutdown(std::net::Shutdown::Both))),
                ..Said::ok("", "")
            },
        });
        let stand = Stand::new(
            backend.address,
            "coalesce = true\ncache = { ttl = \"1ms\", stale_if_error = \"60s\" }",
            "",
        );
        stand.send(&get("/a"));
        thread::sleep(Duration::from_millis(5));
        let reply = stand.send(&get("/a"));
        assert_eq!((reply.status, reply.text()), (200, "nonce 1".into()), "{failure}");
        assert!(reply.header("cache-status").unwrap().ends_with("detail=stale-if-error"));
        assert_eq!(stand.decided("stale"), 1);
        assert_ne!(stand.send(&get("/other")).status, 200, "only what there is a copy of");
    }
}

#[test]
fn a_stale_copy_is_given_at_once_and_renewed_by_one_call() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(
        backend.address,
        "coalesce = true\ncache = { ttl = \"1ms\", stale_while_revalidate = \"60s\" }",
        "",
    );
    stand.send(&get("/a"));
    thread::sleep(Duration::from_millis(5));
    backend.hold();
    for _ in 0..5 {
        assert_eq!(stand.send(&get("/a")).text(), "nonce 1");
    }
    eventually("one call renews it", || (backend.count() == 2).then_some(()));
    backend.release();
    eventually("the copy is new", || (stand.send(&get("/a")).text() != "nonce 1").then_some(()));
}

#[test]
fn a_failure_behind_a_clients_back_takes_no_copy_that_may_still_be_given() {
    let backend = Scripted::start(|asked| match asked.number {
        1 => nonce(asked),
        _ => Said::status(500, "", "failed"),
    });
    let stand =
        Stand::new(backend.address, "cache = { ttl = \"1ms\", stale_while_revalidate = \"60s\" }", "");
    stand.send(&get("/a"));
    thread::sleep(Duration::from_millis(5));
    assert_eq!(stand.send(&get("/a")).text(), "nonce 1");
    eventually("the failure has come", || {
        (stand.figure("oncegate_cache_barred_total{why=\"status\"}") >= 1).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(stand.send(&get("/a")).text(), "nonce 1");
    }
    assert_eq!(backend.count(), 2, "for a moment a backend that failed is left alone");
}

#[test]
fn one_callers_answer_takes_nobody_elses_copy_on_a_page_for_everyone() {
    let everyone = "coalesce = true\ncache = { ttl = \"60s\", share = \"everyone\" }";
    let backend = Scripted::start(|asked| match (asked.header("authorization"), asked.header("cookie")) {
        (Some(_), _) => Said::ok("Cache-Control: max-age=60\r\n", "for one"),
        (_, Some(_)) => Said::ok("Set-Cookie: s=2\r\n", "for one"),
        _ if asked.header("x-api-key").is_some() => Said::status(404, "", "gone"),
        _ => nonce(asked),
    });
    let stand = Stand::new(backend.address, everyone, "");
    let anew = |name: &str, value: &str| {
        stand.send(&get("/a").header(name, value).header("Cache-Control", "no-cache")).text()
    };
    assert_eq!(stand.send(&get("/a")).text(), "nonce 1");
    assert_eq!([anew("Authorization", "Bearer 1"), anew("Cookie", "s=1")], ["for one", "for one"]);
    assert_eq!(stand.send(&get("/a")).text(), "nonce 1");
    // Nor does it keep others from having a copy of what was asked for first by somebody with a token.
    assert_eq!(stand.send(&get("/b").header("Authorization", "Bearer 1")).text(), "for one");
    assert_eq!([stand.send(&get("/b")).text(), stand.send(&get("/b")).text()], ["nonce 5", "nonce 5"]);
    // A page that is gone is gone for everyone.
    assert_eq!(anew("X-Api-Key", "k"), "gone");
    assert_ne!(stand.send(&get("/a")).text(), "nonce 1");
}

#[test]
fn who_wants_only_a_copy_is_not_forwarded_where_reads_go_by_themselves_either() {
    let backend = Scripted::start(|_| Said::ok("Cache-Control: no-store\r\n", "for one"));
    let stand = Stand::new(backend.address, LONG, "");
    stand.send(&get("/a"));
    let reply = stand.send(&get("/a").header("Cache-Control", "only-if-cached"));
    assert_eq!((reply.status, backend.count()), (504, 1));
}

#[test]
fn a_confirmed_copy_is_as_old_as_its_confirmation_also_where_that_has_no_date() {
    let backend = Scripted::start(|asked| match asked.header("if-none-match") {
        Some(_) => Said::status(304, "ETag: \"v1\"\r\n", ""),
        None => Said::ok(
            "ETag: \"v1\"\r\nCache-Control: max-age=60\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n",
            "the body",
        ),
    });
    let stand = Stand::new(backend.address, "cache = { }", "");
    stand.send(&get("/a"));
    let confirmed = stand.send(&get("/a"));
    assert_eq!(confirmed.header("cache-status"), Some("oncegate; fwd=stale; fwd-status=304"));
    assert!(!confirmed.header("date").unwrap().contains("2023"), "{confirmed:?}");
    let again = stand.send(&get("/a"));
    assert!(again.header("cache-status").unwrap().starts_with("oncegate; hit"), "{again:?}");
    assert_eq!(backend.count(), 2);
}

#[test]
fn what_the_client_says_about_copies_is_heeded() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, LONG, "");
    let says = |directive: &str| stand.send(&get("/a").header("Cache-Control", directive));
    assert_eq!((says("only-if-cached").status, backend.count()), (504, 0));
    assert_eq!(stand.send(&get("/a")).text(), "nonce 1");
    assert_eq!(says("only-if-cached").text(), "nonce 1");
    assert_eq!(says("max-age=50").text(), "nonce 1");
    assert_eq!(says("min-fresh=3600").text(), "nonce 2");
    assert_eq!(says("no-cache").text(), "nonce 3");
    assert_eq!(stand.send(&get("/a")).text(), "nonce 3", "what was asked for anew is kept");
    assert_eq!(says("no-store").text(), "nonce 4");
    assert_eq!(stand.send(&get("/a")).text(), "nonce 3");
    assert_eq!(stand.send(&get("/a").header("Pragma", "no-cache")).text(), "nonce 5");
}

#[test]
fn what_is_not_a_plain_whole_read_goes_to_the_backend() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, LONG, "");
    stand.send(&get("/a"));
    for (name, value) in [
        ("Range", "bytes=0-1"),
        ("If-Match", "\"x\""),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("X-HTTP-Method-Override", "DELETE"),
    ] {
        let before = backend.count();
        for _ in 0..2 {
            stand.send(&get("/a").header(name, value));
        }
        assert_eq!(counted(&backend, before), 2, "{name}");
    }
    let before = backend.count();
    for _ in 0..2 {
        stand.send(&get("/a").header("Content-Length", "2").body("ab"));
    }
    assert_eq!(counted(&backend, before), 2);
}

#[test]
fn memory_is_bounded_and_what_does_not_fit_goes() {
    let backend = Scripted::start(|_| Said::ok("", vec![b'x'; 20_000]));
    let stand = Stand::new(backend.address, LONG, "[cache]\nmemory = \"1MiB\"\nanswer_limit = \"32KiB\"");
    for n in 0..200 {
        assert_eq!(stand.get(&format!("/{n}")).body.len(), 20_000);
    }
    let bytes = stand.figure("oncegate_cache_bytes ");
    assert!((100_000..=1 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn the_page_of_a_route_that_only_observes_is_never_kept() {
    let backend = Scripted::start(nonce);
    let stand = Stand::new(backend.address, &format!("mode = \"observe\"\n{LONG}"), "");
    assert_eq!([stand.send(&get("/a")).text(), stand.send(&get("/a")).text()], ["nonce 1", "nonce 2"]);
}
