//! The answer to one request on its way to hyper.

use super::body::ResponseBody;
use super::connection::Connection;
use super::head_writer::Written;
use http::Response;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// An answer, ready for hyper.
pub struct Answer {
    response: Box<Response<ResponseBody>>,
    /// How its head is written, over HTTP/1.
    written: Option<Written>,
    connection: Rc<Connection>,
}

/// An exchange's answer: there at once, or on its way.
pub enum Answering {
    /// Until it is asked for: only then hyper has room for it.
    Now(Option<Answer>),
    /// Boxed: a connection at rest must not hold room for an exchange's state.
    Later(Rc<Connection>, Pin<Box<dyn Future<Output = Response<ResponseBody>>>>),
}

// === impl Answer ===

impl Answer {
    /// The answer to a request that came over `connection`.
    pub fn new(
        response: Box<Response<ResponseBody>>,
        written: Option<Written>,
        connection: &Rc<Connection>,
    ) -> Answer {
        Answer { response, written, connection: connection.clone() }
    }

    /// What hyper gets; what it gets next to write is this answer's head.
    pub fn give(self) -> Response<ResponseBody> {
        if let Some(written) = self.written {
            self.connection.answers(written);
        }
        self.connection.has_answered();
        *self.response
    }
}

// === impl Answering ===

impl Answering {
    /// An answer that nothing was waited for.
    pub fn at_once(answer: Answer) -> Answering {
        Answering::Now(Some(answer))
    }
}

impl Future for Answering {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answering::Later(connection, answering) => {
                connection.answered.asks();
                answering.as_mut().poll(cx).map(Ok)
            }
            Answering::Now(answer) => match answer.take() {
                Some(answer) => {
                    answer.connection.answered.asks();
                    Poll::Ready(Ok(answer.give()))
                }
                None => Poll::Pending,
            },
        }
    }
}
