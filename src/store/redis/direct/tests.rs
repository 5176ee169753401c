//! A server is the other end of a pipe here, and says when it answers what.

use super::super::part::Parts;
use super::super::usual::{self, Relying, Usual};
use super::*;
use crate::domain::ledger::RecordId;
use futures_util::future::join_all;
use std::future::poll_fn;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const SECOND: Duration = Duration::from_secs(1);

/// A connection, and the server's end of it.
fn connected(room: usize, most: usize) -> (Direct, DuplexStream) {
    let (ours, server) = duplex(room);
    (Direct::with(ours, most), server)
}

fn command(n: usize) -> Vec<u8> {
    format!("*2\r\n$4\r\nECHO\r\n$3\r\n{n:03}\r\n").into_bytes()
}

/// What of `n` commands came, as their numbers.
async fn numbers(server: &mut DuplexStream, n: usize) -> Vec<usize> {
    let mut asked = vec![0; n * command(0).len()];
    server.read_exact(&mut asked).await.expect("commands");
    let text = String::from_utf8(asked).expect("text");
    text.split("\r\n").skip(4).step_by(5).map(|n| n.parse().expect("a number")).collect()
}

async fn answer(server: &mut DuplexStream, numbers: &[usize]) {
    let replies: String = numbers.iter().map(|n| format!(":{n}\r\n")).collect();
    server.write_all(replies.as_bytes()).await.expect("it listens");
}

/// Lets everybody go as far as they can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Asks, and says whether there is no reply yet.
async fn is_waiting(asked: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *asked).poll(cx).is_pending())).await
}

fn is(told: &Result<Value, Failed>, n: usize) -> bool {
    matches!(told, Ok(Value::Int(number)) if *number == n as i64)
}

#[tokio::test]
async fn what_is_asked_meanwhile_goes_in_one_piece_and_everybody_gets_their_own_reply() {
    let (direct, mut server) = connected(1 << 16, 1_024);
    let ask = |n| direct.ask(command(n), None);
    let serve = async {
        assert_eq!(numbers(&mut server, 1).await, [100]);
        settle().await;
        answer(&mut server, &[100]).await;
        let mut piece = vec![0; 1 << 14];
        let length = server.read(&mut piece).await.expect("a piece");
        assert_eq!(length, 10 * command(0).len(), "one piece");
        answer(&mut server, &[0, 1, 2]).await;
        settle().await;
        answer(&mut server, &[3, 4, 5, 6, 7, 8, 9]).await;
    };
    let later = async {
        tokio::task::yield_now().await;
        join_all((0..10).map(ask)).await
    };
    let (first, others, ()) = tokio::join!(ask(100), later, serve);
    assert!(is(&first, 100));
    assert!(others.iter().enumerate().all(|(n, told)| is(told, n)), "{others:?}");
}

/// A usual claim under an agreement.
fn usual(parts: &Parts, n: u8, agreement: &[u8]) -> Relying {
    let usual = Arc::new(Usual::claim(parts, &RecordId([n; 32]), b"told", &[b"above"]));
    Relying::on(&usual, Some(agreement.into()))
}

#[tokio::test]
async fn usual_claims_go_together_where_they_rely_on_the_same_and_everybody_gets_their_own_reply() {
    let (direct, mut server) = connected(1 << 16, 1_024);
    let parts = Parts::one("p");
    let claims: Vec<Relying> = (0..6).map(|n| usual(&parts, n, if n < 3 { b"a" } else { b"b" })).collect();
    let ask = |n: usize| direct.ask(Asked::Usual(claims[n].clone()), None);
    let serve = async {
        assert_eq!(numbers(&mut server, 1).await, [100]);
        settle().await;
        answer(&mut server, &[100]).await;
        let expected = [
            command(101),
            usual::together(&[claims[0].clone(), claims[1].clone(), claims[2].clone()]).bytes(None),
            usual::together(&[claims[3].clone(), claims[5].clone()]).bytes(None),
        ];
        let mut piece = vec![0; expected.concat().len()];
        server.read_exact(&mut piece).await.expect("a piece");
        assert_eq!(String::from_utf8_lossy(&piece), String::from_utf8_lossy(&expected.concat()));
        let replies = b":101\r\n*3\r\n:0\r\n$-1\r\n$4\r\nkept\r\n-NOSCRIPT gone\r\n";
        server.write_all(replies).await.expect("it listens");
    };
    let later = async {
        tokio::task::yield_now().await;
        let mut leaves = Box::pin(ask(4));
        let (asked, others) = (Box::pin(direct.ask(command(101), None)), join_all([0, 1, 2].map(ask)));
        let mut asked = futures_util::future::join3(asked, others, join_all([3, 5].map(ask)));
        assert!(is_waiting(&mut leaves).await);
        assert!(is_waiting(&mut asked).await);
        drop(leaves);
        asked.await
    };
    let (_, (alone, others, last), ()) = tokio::join!(direct.ask(command(100), None), later, serve);
    assert!(is(&alone, 101));
    assert!(is(&others[0], 0) && matches!(others[1], Ok(Value::Nil)), "{others:?}");
    assert!(matches!(&others[2], Ok(Value::BulkString(kept)) if kept == b"kept"), "{others:?}");
    assert!(last.iter().all(|told| matches!(told, Ok(Value::ServerError(_)))), "{last:?}");
}

#[tokio::test]
async fn a_reply_that_is_not_one_for_each_ends_the_connection_for_everybody() {
    for wrong in [&b"*1\r\n:1\r\n"[..], b":1\r\n", b"*3\r\n:1\r\n:2\r\n:3\r\n"] {
        let (direct, mut server) = connected(1 << 16, 1_024);
        let parts = Parts::one("p");
        let ask = |n| direct.ask(Asked::Usual(usual(&parts, n, b"a")), None);
        server.write_all(wrong).await.expect("it listens");
        let told = join_all([1, 2].map(ask)).await;
        assert!(told.iter().all(|told| matches!(told, Err(Failed::Lost(_)))), "{told:?}");
    }
}

#[tokio::test]
async fn a_piece_that_does_not_fit_is_written_bit_by_bit() {
    let (direct, mut server) = connected(7, 1_024);
    let all: Vec<usize> = (0..50).collect();
    let serve = async {
        assert_eq!(numbers(&mut server, 50).await, all);
        answer(&mut server, &all).await;
    };
    let asked = join_all(all.iter().map(|n| direct.ask(command(*n), None)));
    let (told, ()) = tokio::join!(asked, serve);
    assert!(told.iter().enumerate().all(|(n, told)| is(told, n)));
}

#[tokio::test(start_paused = true)]
async fn everybody_waits_as_long_as_they_said_and_late_replies_are_nobodys() {
    let (direct, mut server) = connected(1 << 16, 1_024);
    let start = Instant::now();
    let ask = async |n, seconds: u32| {
        let told = direct.ask(command(n), Some(start + SECOND * seconds)).await;
        (told, start.elapsed().as_secs())
    };
    let serve = async {
        assert_eq!(numbers(&mut server, 1).await, [0]);
        tokio::time::sleep(SECOND * 7).await;
        // 3 has lost its patience before it was sent.
        answer(&mut server, &[0]).await;
        assert_eq!(numbers(&mut server, 2).await, [1, 2]);
        tokio::time::sleep(SECOND * 3).await;
        answer(&mut server, &[1, 2]).await;
    };
    let later = async {
        settle().await;
        tokio::join!(ask(1, 9), ask(2, 20), ask(3, 3))
    };
    let (first, (one, two, three), ()) = tokio::join!(ask(0, 5), later, serve);
    for (told, at) in [(first, 5), (one, 9), (three, 3)] {
        assert!(matches!(told.0, Err(Failed::Late)), "{told:?}");
        assert_eq!(told.1, at);
    }
    assert!(is(&two.0, 2), "{two:?}");
}

#[tokio::test]
async fn who_has_left_is_not_sent_and_leaves_the_replies_of_others_alone() {
    let (direct, mut server) = connected(1 << 16, 1_024);
    let mut leaves: Vec<_> = (0..4).map(|n| Box::pin(direct.ask(command(n), None))).collect();
    for asked in &mut leaves[..2] {
        assert!(is_waiting(asked).await);
    }
    assert_eq!(numbers(&mut server, 2).await, [0, 1]);
    for asked in &mut leaves[2..] {
        assert!(is_waiting(asked).await);
    }
    // Sent, and waiting.
    drop(leaves.remove(2));
    drop(leaves.remove(0));
    answer(&mut server, &[0, 1]).await;
    assert!(is(&leaves.remove(0).await, 1));
    assert_eq!(numbers(&mut server, 1).await, [3]);
    answer(&mut server, &[3]).await;
    assert!(is(&leaves.remove(0).await, 3));
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_waits_for_one() {
    let (direct, mut server) = connected(1 << 16, 2);
    let start = Instant::now();
    let ask = |n, seconds: u32| direct.ask(command(n), Some(start + SECOND * seconds));
    let serve = async {
        assert_eq!(numbers(&mut server, 1).await, [0]);
        tokio::time::sleep(SECOND * 2).await;
        answer(&mut server, &[0]).await;
        assert_eq!(numbers(&mut server, 1).await, [1]);
        // There was no place for it when that piece was sent.
        let more = tokio::time::timeout(SECOND / 2, numbers(&mut server, 1)).await;
        assert!(more.is_err(), "{more:?}");
        answer(&mut server, &[1]).await;
        assert_eq!(numbers(&mut server, 1).await, [3]);
        answer(&mut server, &[3]).await;
    };
    let later = async {
        settle().await;
        tokio::join!(ask(1, 9), ask(2, 1), ask(3, 9))
    };
    let (zero, (one, two, three), ()) = tokio::join!(ask(0, 9), later, serve);
    assert!(is(&zero, 0) && is(&one, 1) && is(&three, 3), "{zero:?} {one:?} {three:?}");
    assert!(matches!(two, Err(Failed::Late)), "{two:?}");
}

#[tokio::test(start_paused = true)]
async fn where_the_server_goes_away_or_says_more_than_it_was_asked_everybody_is_told() {
    for says in ["", ":0\r\n:1\r\n:2\r\n", ":0\r\nHTTP/1.1 400 Bad Request\r\n"] {
        let (direct, mut server) = connected(1 << 16, 1_024);
        let later = async {
            settle().await;
            direct.ask(command(1), None).await
        };
        let serve = async {
            assert_eq!(numbers(&mut server, 1).await, [0]);
            settle().await;
            server.write_all(says.as_bytes()).await.expect("it listens");
            Some(server).filter(|_| !says.is_empty())
        };
        let later = async { tokio::time::timeout(SECOND, later).await.expect("told at once") };
        let (first, second, _server) = tokio::join!(direct.ask(command(0), None), later, serve);
        assert!(says.is_empty() || is(&first, 0), "{first:?}");
        assert!(matches!(second, Err(Failed::Lost(_))), "{second:?}");
        assert!(matches!(direct.ask(command(2), None).await, Err(Failed::Lost(_))));
    }
}

#[test]
fn whoever_asks_when_the_driver_has_ended_is_told_so_at_once() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let driving = runtime();
    let (direct, _server) = driving.block_on(async { connected(1 << 16, 1_024) });
    let (asking, ask) = (runtime(), || direct.ask(command(0), None));
    let mut waits = Box::pin(ask());
    assert!(asking.block_on(is_waiting(&mut waits)));
    drop(driving);
    for told in [waits, Box::pin(ask())] {
        let told = asking.block_on(async { tokio::time::timeout(SECOND * 5, told).await });
        assert!(told.expect("told at once").is_err());
    }
}

#[tokio::test]
async fn several_go_one_behind_the_other() {
    let (direct, mut server) = connected(1 << 16, 1_024);
    let serve = async {
        assert_eq!(numbers(&mut server, 1).await, [9]);
        settle().await;
        answer(&mut server, &[9]).await;
        assert_eq!(numbers(&mut server, 3).await, [0, 1, 2]);
        answer(&mut server, &[0, 1, 2]).await;
    };
    let all = async {
        tokio::task::yield_now().await;
        direct.ask_all((0..2).map(command).collect()).await
    };
    let last = async {
        tokio::task::yield_now().await;
        direct.ask(command(2), None).await
    };
    let (_, all, last, ()) = tokio::join!(direct.ask(command(9), None), all, last, serve);
    assert_eq!(all.expect("replies"), [Value::Int(0), Value::Int(1)]);
    assert!(is(&last, 2));
}
