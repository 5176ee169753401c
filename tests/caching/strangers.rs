//! The one thing that must never happen: a byte of one caller reaching another.
//!
//! The backend answers every read with what it was sent (each credential, the cookies, the headers that matter) and with
//! what the caller has written so far; the answers carry random caching headers, validators, cookies and statuses, come
//! in pieces or break off. Clients with random credentials read, write, leave in the middle and ask conditionally, all at
//! once. Each knows what may be in its own answer.
//!
//! `ONCEGATE_READS=100000 cargo test --test it strangers` is the long campaign.

use super::Stand;
use super::backend::{Asked, Said, Scripted};
use crate::harness::{Call, Reply};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 12;
const USUAL: usize = 6_000;

/// A small generator: the choices can be repeated, the schedule is the machine's.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

/// Everything that a backend might make a difference by.
const TOLD: [&str; 5] = ["authorization", "cookie", "x-api-key", "accept-language", "host"];

/// Who and what was asked, as it is in the answer: a reader finds itself in it, or somebody else.
fn echo(asked: &Asked) -> String {
    let header = |name: &&str| format!("{name}={}", asked.header(name).unwrap_or("-"));
    format!("{} {} {}", asked.method, asked.target, TOLD.iter().map(header).collect::<Vec<_>>().join(" "))
}

/// How often each caller has written.
type Written = Arc<Mutex<HashMap<String, u64>>>;

fn caller_of(asked: &Asked) -> String {
    ["authorization", "cookie", "x-api-key"]
        .map(|name| asked.header(name).unwrap_or("-").to_owned())
        .join("|")
}

fn backend(written: Written) -> Scripted {
    let dice = Mutex::new(Dice(7));
    Scripted::start(move |asked| {
        let caller = caller_of(asked);
        if asked.method != "GET" {
            *written.lock().unwrap().entry(caller).or_default() += 1;
            return Said::ok("", "written");
        }
        let version = written.lock().unwrap().get(&caller).copied().unwrap_or_default();
        let mut dice = dice.lock().unwrap();
        // Some pages may be shared, some may not, and some now and then.
        let kind = asked.target.bytes().last().unwrap_or_default() - b'0';
        let freshness = dice.pick(match kind {
            0 => &["", "", "Vary: Accept-Language, Cookie\r\n"],
            1 => &[
                "",
                "Cache-Control: max-age=1\r\n",
                "Cache-Control: max-age=0\r\n",
                "Cache-Control: no-cache\r\n",
            ],
            2 => &["", "Cache-Control: private, max-age=1\r\n", "Cache-Control: max-age=1\r\n"],
            _ => &["", "Cache-Control: no-store\r\n", "Vary: *\r\n", "Expires: 0\r\n"],
        });
        let tag = format!("ETag: \"{}\"\r\n", digest(&format!("{} {version}", echo(asked))));
        let tagged = dice.roll(2) == 0;
        let cookie = format!("Set-Cookie: mine={}\r\n", digest(&caller));
        let cookie = if kind == 3 && dice.roll(3) == 0 { cookie.as_str() } else { "" };
        let headers = format!("{freshness}{cookie}{}", if tagged { tag.as_str() } else { "" });
        let body = format!("{} version={version} nonce={}\n", echo(asked), asked.number);
        match dice.roll(if kind == 0 { 400 } else { 60 }) {
            0 => Said::status(503, &headers, body),
            1 => Said::status(404, &headers, body),
            2 => Said {
                by_hand: Some(|stream| drop(stream.shutdown(std::net::Shutdown::Both))),
                ..Said::ok("", "")
            },
            3 => {
                thread::sleep(Duration::from_millis(3));
                Said::ok(&headers, body)
            }
            _ if tagged && asked.header("if-none-match").is_some_and(|held| tag.contains(held)) => {
                Said::status(304, &headers, "")
            }
            _ => Said::ok(&headers, body),
        }
    })
}

fn digest(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// One read with its sender.
#[derive(Clone)]
struct Sent {
    call: Call,
    echo: String,
    caller: String,
}

fn sent(dice: &mut Dice, method: &str) -> Sent {
    // A page that is written is ended for everybody, so most writes go elsewhere.
    let elsewhere = method != "GET" && dice.roll(4) > 0;
    let target = if elsewhere { "/elsewhere".into() } else { format!("/page/{}", dice.roll(4)) };
    let mut call = Call::new(method, &target).header("Host", dice.pick(&["one", "two"]));
    if dice.roll(3) > 0 {
        call = call.header("Authorization", &format!("Bearer token-{}", dice.roll(2)));
    }
    if dice.roll(3) > 0 {
        call = call.header("Cookie", &format!("s=session-{}", dice.roll(2)));
    }
    if dice.roll(20) == 0 {
        call = call.header("X-Api-Key", &format!("key-{}", dice.roll(2)));
    }
    if dice.roll(3) == 0 {
        call = call.header("Accept-Language", dice.pick(&["de", "fr"]));
    }
    // Noise, which may differ between equal reads.
    call = call.header("Traceparent", &format!("00-{:032x}-01", dice.roll(1 << 40)));
    let asked = Asked { method: method.into(), target, headers: call.headers.clone(), number: 0 };
    let (echo, caller) = (echo(&asked), caller_of(&asked));
    Sent { call, echo, caller }
}

/// What a reader must not find; the version that it found. `held`: the version that it has already.
fn judge(sent: &Sent, reply: &Reply, least: u64, held: Option<u64>) -> Result<Option<u64>, String> {
    let cookie = reply.header("set-cookie");
    if cookie.is_some_and(|cookie| cookie != format!("mine={}", digest(&sent.caller))) {
        return Err(format!("{} got {cookie:?}", sent.caller));
    }
    if reply.header("content-type") == Some("application/problem+json") {
        return Ok(None);
    }
    let text = reply.text();
    let version = match (reply.status, held) {
        (304, Some(held)) => held,
        _ if text.starts_with(&format!("{} version=", sent.echo)) => {
            let version = text.split("version=").nth(1).and_then(|rest| rest.split(' ').next());
            version.and_then(|text| text.parse().ok()).unwrap_or_default()
        }
        _ => return Err(format!("asked as\n  {}\ngot {}\n  {text}", sent.echo, reply.status)),
    };
    if version < least {
        return Err(format!("{} had written {least} times and saw version {version}", sent.caller));
    }
    Ok(Some(version))
}

/// Sends a request and leaves.
fn leave(call: &Call, address: SocketAddr, after: Duration) {
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.write_all(&call.bytes(address));
        thread::sleep(after);
        let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
        let _ = stream.read(&mut [0; 16]);
    }
}

/// One client's life: it reads as anybody, and writes as callers that are its own, so that it knows what they must see.
fn live(
    seed: u64,
    reads: usize,
    address: SocketAddr,
    confirmed: &Mutex<HashMap<String, u64>>,
    figures: &Figures,
) -> Result<(), String> {
    let mut dice = Dice(seed);
    let mut held: HashMap<String, (String, u64)> = HashMap::new();
    for _ in 0..reads {
        match dice.roll(40) {
            0 => {
                let write = sent(&mut dice, "POST");
                if write.call.send(address).is_ok_and(|reply| reply.status == 200) {
                    // Answered: whoever reads from here on sees it.
                    *confirmed.lock().unwrap().entry(write.caller).or_default() += 1;
                    figures.writes.fetch_add(1, Ordering::Relaxed);
                }
            }
            1 => leave(&sent(&mut dice, "GET").call, address, Duration::from_millis(dice.roll(4))),
            _ => {
                let mut read = sent(&mut dice, "GET");
                let has = held.get(&read.echo).cloned().filter(|_| dice.roll(2) == 0);
                if let Some((tag, _)) = &has {
                    read.call = read.call.header("If-None-Match", tag);
                }
                let least = confirmed.lock().unwrap().get(&read.caller).copied().unwrap_or_default();
                let Ok(reply) = read.call.send(address) else { continue };
                figures.count(&reply);
                let version = judge(&read, &reply, least, has.map(|(_, version)| version))?;
                if let (Some(tag), Some(version)) = (reply.header("etag"), version) {
                    held.insert(read.echo, (tag.to_owned(), version));
                }
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Figures {
    reads: AtomicUsize,
    copies: AtomicUsize,
    unchanged: AtomicUsize,
    writes: AtomicU64,
}

impl Figures {
    fn count(&self, reply: &Reply) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let status = reply.header("cache-status").unwrap_or_default();
        if status.contains("; hit") || status.contains("collapsed") {
            self.copies.fetch_add(1, Ordering::Relaxed);
        }
        if reply.status == 304 {
            self.unchanged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn wanted() -> usize {
    std::env::var("ONCEGATE_READS").ok().and_then(|text| text.parse().ok()).unwrap_or(USUAL)
}

fn campaign(route: &str) {
    let seed =
        std::env::var("ONCEGATE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_251_125u64);
    let backend = backend(Written::default());
    let stand = Stand::new(backend.address, route, "[cache]\nmemory = \"1MiB\"\nanswer_limit = \"32KiB\"");
    let (address, confirmed, figures) = (stand.gate.address, Mutex::default(), Figures::default());
    let (began, each) = (Instant::now(), wanted() / CLIENTS);
    let problems: Vec<String> = thread::scope(|scope| {
        let (confirmed, figures) = (&confirmed, &figures);
        let clients: Vec<_> = (0..CLIENTS as u64)
            .map(|client| scope.spawn(move || live(seed ^ (client << 32), each, address, confirmed, figures)))
            .collect();
        clients.into_iter().filter_map(|client| client.join().unwrap().err()).collect()
    });
    let count = |cell: &AtomicUsize| cell.load(Ordering::Relaxed);
    println!(
        "seed {seed}: {} answers judged, {} of them copies, {} times 304, {} writes, {} requests to the backend, {:?}",
        count(&figures.reads),
        count(&figures.copies),
        count(&figures.unchanged),
        figures.writes.load(Ordering::Relaxed),
        backend.count(),
        began.elapsed()
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // A campaign in which nothing is shared shows nothing.
    assert!(count(&figures.copies) * 20 > count(&figures.reads), "hardly anything was shared");
    assert!(count(&figures.unchanged) > 0 && figures.writes.load(Ordering::Relaxed) > 0);
}

#[test]
fn no_byte_of_one_caller_reaches_another() {
    campaign(
        "coalesce = true\ncache = { ttl = \"2s\", stale_if_error = \"2s\", stale_while_revalidate = \"1s\" }",
    );
}

#[test]
fn no_byte_of_one_caller_reaches_another_where_the_backend_is_believed_about_vary() {
    let backend = Scripted::start(|asked| {
        let who = caller_of(asked);
        Said::ok(
            "Vary: Accept-Language\r\n",
            format!("{who} {:?} {:?}", asked.header("host"), asked.header("accept-language")),
        )
    });
    let stand = Stand::new(backend.address, "coalesce = true\ncache = { ttl = \"2s\", key = \"vary\" }", "");
    let address = stand.gate.address;
    let wrong = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..4u64 {
            let wrong = &wrong;
            scope.spawn(move || {
                let mut dice = Dice(client << 32);
                for _ in 0..wanted() / 12 {
                    let read = sent(&mut dice, "GET");
                    let asked = Asked {
                        method: "GET".into(),
                        target: String::new(),
                        headers: read.call.headers.clone(),
                        number: 0,
                    };
                    let expected = format!(
                        "{} {:?} {:?}",
                        read.caller,
                        asked.header("host"),
                        asked.header("accept-language")
                    );
                    let Ok(reply) = read.call.send(address) else { continue };
                    if reply.status == 200 && reply.text() != expected {
                        println!("expected {expected}\n     got {}", reply.text());
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    assert!(stand.decided("cached") > 0);
}
