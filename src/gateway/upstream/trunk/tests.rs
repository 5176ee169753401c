use super::*;
use bytes::Bytes;
use std::pin::pin;
use std::task::{Context, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);
/// SETTINGS with room for one stream, and an answer to the first one: 200, nothing more.
const ONE_STREAM: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];
const ANSWER: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];

async fn trunk(socket: TcpStream) -> Rc<Trunk> {
    let traffic = Rc::new(Traffic::default());
    let io = TokioIo::new(TrunkStream::new(crate::gateway::socket::Socket::Plain(socket), traffic.clone()));
    let takings = Rc::<Takings>::default();
    let made = settings(Tasks::new(takings.clone(), PATIENCE)).handshake(io).await;
    let (sender, connection) = made.expect("a connection");
    let trunk = Trunk::new(sender, connection, traffic, takings);
    trunk.settled().await.expect("settings");
    Rc::new(trunk)
}

/// A connection whose server allows one stream, which a request has; that request's task, and the server.
async fn busy() -> (Rc<Trunk>, JoinHandle<bool>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let socket = TcpStream::connect(address).await.expect("a socket");
    let (mut server, _) = listener.accept().await.expect("a connection");
    server.write_all(&ONE_STREAM).await.expect("it is there");
    let trunk = trunk(socket).await;
    assert_eq!(trunk.streams_most(), 1);
    let mut first = Stream::new(trunk.clone());
    let asking =
        tokio::task::spawn_local(async move { first.exchange(post(), &|_| true, true).await.is_ok() });
    let begins = async {
        while trunk.traffic.begun() < 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, begins).await.expect("the first one leaves");
    (trunk, asking, server)
}

/// Waits for a stream in vain.
async fn wait(stream: &mut Stream, stays: bool) {
    assert!(timeout(Duration::from_millis(100), stream.exchange(post(), &|_| true, stays)).await.is_err());
    assert_eq!(stream.trunk.traffic.begun(), 1);
}

/// The streams that began in what a client has said.
fn begun(came: &[u8]) -> Vec<u8> {
    let (mut frames, mut begun) = (&came[24..], Vec::new());
    while let [high, middle, low, kind, _, _, _, _, stream, ..] = frames {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        begun.extend((*kind == 1).then_some(*stream));
        frames = &frames[9 + length..];
    }
    begun
}

fn post() -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::whole(Bytes::from_static(b"{}")));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("http://a/b");
    request
}

#[tokio::test]
async fn a_write_that_waits_for_a_stream_never_leaves_once_it_was_given_up() {
    let test = async {
        let (trunk, asking, mut server) = busy().await;
        let (mut second, mut third) = (Stream::new(trunk.clone()), Stream::new(trunk.clone()));
        let waits = async move {
            let ended = third.exchange(post(), &|_| true, true).await;
            matches!(ended, Err(Unanswered::Unsent(..)))
        };
        wait(&mut second, true).await;
        let waits = tokio::task::spawn_local(waits);
        tokio::task::yield_now().await;
        drop(second);
        assert!(!trunk.is_open(), "nobody else begins on it");
        // There is room now.
        server.write_all(&ANSWER).await.expect("it is there");
        assert!(asking.await.expect("no panic"), "what has begun goes on");
        assert!(waits.await.expect("no panic"), "what is kept back with it is known not to have left");
        let mut came = Vec::new();
        let _ended = timeout(PATIENCE, server.read_to_end(&mut came)).await.expect("it ends");
        assert_eq!(begun(&came), [1], "only the first has left");
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_is_given_up_before_it_was_taken_and_what_may_leave_ends_nobody_else() {
    let test = async {
        let (trunk, asking, mut server) = busy().await;
        let (mut at_once, mut read) = (Stream::new(trunk.clone()), Stream::new(trunk.clone()));
        // Given up in the poll in which it was given.
        let given = pin!(at_once.exchange(post(), &|_| true, true))
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending();
        assert!(given);
        drop(at_once);
        wait(&mut read, false).await;
        drop(read);
        assert!(trunk.is_open());
        server.write_all(&ANSWER).await.expect("it is there");
        assert!(asking.await.expect("no panic"));
        // The read may leave, and is ended at once.
        let reset = async {
            let (mut came, mut part) = (Vec::new(), [0; 1024]);
            while !came.windows(9).any(|head| head[..4] == [0, 0, 4, 3] && head[8] == 3) {
                let count = server.read(&mut part).await.expect("it is open");
                assert!(count > 0, "it is open");
                came.extend_from_slice(&part[..count]);
            }
            came
        };
        let came = timeout(PATIENCE, reset).await.expect("its RST_STREAM");
        assert_eq!(begun(&came), [1, 3], "what was not taken has not left");
        assert!(trunk.is_open());
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn answers_that_cross_their_reset_end_nobody_else_however_many_they_are() {
    const RESETS: u64 = 1200;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let test = async {
        let socket = TcpStream::connect(address).await.expect("a socket");
        let (mut server, _) = listener.accept().await.expect("a connection");
        server.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("it is there");
        let trunk = trunk(socket).await;
        for number in 1..=RESETS {
            let mut stream = Stream::new(trunk.clone());
            let mut asking = pin!(stream.exchange(post(), &|_| true, false));
            let given_up = poll_fn(|cx| {
                let ended = asking.as_mut().poll(cx).is_ready();
                if ended || trunk.traffic.begun() == number {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            timeout(PATIENCE, given_up).await.expect("it leaves");
        }
        let answers: Vec<u8> = (0..RESETS)
            .flat_map(|number| {
                let [high, low] = u16::try_from(2 * number + 1).unwrap_or(0).to_be_bytes();
                [0, 0, 1, 1, 5, 0, 0, high, low, 0x88]
            })
            .collect();
        server.write_all(&answers).await.expect("it is there");
        let mut last = Stream::new(trunk.clone());
        let asking = async { last.exchange(post(), &|_| true, true).await.is_ok() };
        let [high, low] = u16::try_from(2 * RESETS + 1).unwrap_or(0).to_be_bytes();
        let answering = async {
            while trunk.traffic.begun() <= RESETS {
                tokio::task::yield_now().await;
            }
            server.write_all(&[0, 0, 1, 1, 5, 0, 0, high, low, 0x88]).await.is_ok()
        };
        let ended = timeout(PATIENCE, async { tokio::join!(asking, answering) }).await;
        assert_eq!(ended.expect("an end"), (true, true));
    };
    tokio::task::LocalSet::new().run_until(test).await;
}
