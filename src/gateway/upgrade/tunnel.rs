//! The two sides of an upgraded connection, joined.

use super::Switch;
use super::frames::{CLOSE_TO_CLIENT, CLOSE_TO_SERVER};
use super::pipe::Pipe;
use crate::gateway::clock;
use crate::gateway::connection::{Connection, Orders};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep_until};

/// A tunnel while it runs.
struct Tunnel<C, S> {
    client: C,
    server: S,
    /// From the client to the server.
    up: Pipe,
    /// From the server to the client.
    down: Pipe,
    is_websocket: bool,
    /// The gateway drains; the tunnel ends by then at the latest.
    ends: Option<Pin<Box<Sleep>>>,
}

/// Rounds of one poll while both sides say goodbye.
const ROUNDS_MOST: u32 = 4;
/// How long both sides may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// Joins the client's socket with the server's until both have ended, one fails, it rests too long, or the gateway
/// drains. `early` is what the client sent behind its request.
pub async fn run<C>(connection: &Connection, client: C, early: Vec<u8>, switch: Switch)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Switch { server, is_websocket, _place: place } = switch;
    let (server, came) = (server.socket, server.early);
    let (up, down) = (Pipe::new(early, is_websocket), Pipe::new(came, is_websocket));
    let mut tunnel = Tunnel { client, server, up, down, is_websocket, ends: None };
    poll_fn(|cx| tunnel.poll(cx, connection)).await;
    drop(place);
}

// === impl Tunnel ===

impl<C, S> Tunnel<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        match connection.orders(cx.waker()) {
            Orders::None => {}
            Orders::Close => return Poll::Ready(()),
            Orders::Drain => {
                self.ends.get_or_insert_with(|| Box::pin(sleep_until(clock::now() + GOODBYE)));
            }
        }
        if self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        for _ in 0..ROUNDS_MOST {
            let changed = self.ends.is_some() && self.say_goodbye();
            // A side that was reset is told to nobody: the other sees its own connection end.
            let Ok(moved) = self.move_on(cx) else { return Poll::Ready(()) };
            if moved > 0 {
                connection.moved(clock::now());
            }
            if self.up.is_shut() && self.down.is_shut() {
                return Poll::Ready(());
            }
            // What came may have made a place between two frames.
            if self.ends.is_none() || (moved == 0 && !changed) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn move_on(&mut self, cx: &mut Context<'_>) -> std::io::Result<usize> {
        let up = self.up.poll(cx, Pin::new(&mut self.client), Pin::new(&mut self.server))?;
        let down = self.down.poll(cx, Pin::new(&mut self.server), Pin::new(&mut self.client))?;
        Ok(up + down)
    }

    /// Ends both directions: of a WebSocket with a close frame each, and the connection behind it as soon as the other
    /// side has answered that; of anything else by closing the sending sides. Whether anything changed.
    fn say_goodbye(&mut self) -> bool {
        let before = (self.up.state(), self.down.state());
        if self.is_websocket {
            let client_told = self.down.close_politely(&CLOSE_TO_CLIENT);
            let server_told = self.up.close_politely(&CLOSE_TO_SERVER);
            if client_told && self.up.has_closed() {
                self.down.end();
            }
            if server_told && self.down.has_closed() {
                self.up.end();
            }
        } else {
            self.up.end();
            self.down.end();
        }
        before != (self.up.state(), self.down.state())
    }
}
