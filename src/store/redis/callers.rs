//! Who waits for replies on one connection: a place each, taken when a command is asked for and given back when its caller
//! has the reply, or has left and the reply has come. Commands are sent in the order in which they were asked for, usual claims
//! and completions together behind the others of their piece; and replies come in the order in which commands were sent.
//!
//! Wakers are called, and dropped, with no lock held: what they belong to may ask again.

use super::usual::{self, Relying};
use redis::{RedisError, Value};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Commands that go in one piece.
pub(super) const TOGETHER_MOST: usize = 256;

/// See the module.
pub(super) struct Callers {
    state: Mutex<State>,
    /// Places were given back while somebody found none.
    room: Notify,
    most: usize,
}

#[derive(Default)]
struct State {
    places: Vec<Place>,
    free: Vec<u32>,
    waiting: VecDeque<(u32, Asked)>,
    /// In the order of their replies.
    sent: VecDeque<Places>,
    /// How many places these are.
    sent_count: usize,
    /// No caller's patience ends before.
    due: Option<Instant>,
    /// Until when the driver sleeps at most.
    armed: Option<Instant>,
    driver: Option<Waker>,
    crowded: bool,
    /// Why nobody is answered any more.
    ended: Option<RedisError>,
}

/// What is asked for.
pub(super) enum Asked {
    /// A command as it goes over the wire.
    Alone(Vec<u8>),
    /// What may go with others.
    Usual(Relying),
}

/// Whom a reply is for; `None` where nobody waits for it any more.
enum Places {
    One(Option<u32>),
    /// An entry for each.
    Several(Vec<Option<u32>>),
}

struct Place {
    stage: Stage,
    until: Option<Instant>,
}

enum Stage {
    Free,
    Waits(Option<Waker>),
    Told(Result<Value, Failed>),
    Left,
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Failed {
    /// It did not come in time.
    Late,
    /// The connection is of no more use.
    Lost(RedisError),
}

/// A command that could not be taken, as there is no place.
struct Full(Asked);

/// A caller's place: the reply, when it is there.
pub(super) struct Reply<'a> {
    callers: &'a Callers,
    /// `None` once it was given back.
    place: Option<u32>,
}

// === impl Callers ===

impl Callers {
    /// At most so many at once.
    pub(super) fn new(most: usize) -> Callers {
        Callers { state: Mutex::default(), room: Notify::new(), most }
    }

    /// Asks for one command, and waits for its reply until `until`.
    pub(super) async fn ask(&self, asked: Asked, until: Option<Instant>) -> Result<Value, Failed> {
        match self.place(asked, until)? {
            Ok(reply) => reply.await,
            Err(full) => Box::pin(self.wait_for_room(full, until)).await,
        }
    }

    /// Asks for several, which nothing comes between.
    pub(super) async fn ask_all(&self, commands: Vec<Vec<u8>>) -> Result<Vec<Value>, Failed> {
        let replies: Vec<Reply<'_>> = {
            let mut state = self.lock();
            let places: Result<Vec<u32>, Failed> =
                commands.into_iter().map(|command| state.take(command.into(), None)).collect();
            places?.into_iter().map(|place| Reply { callers: self, place: Some(place) }).collect()
        };
        self.wake_driver();
        let mut told = Vec::with_capacity(replies.len());
        for reply in replies {
            told.push(reply.await?);
        }
        Ok(told)
    }

    async fn wait_for_room(&self, mut full: Full, until: Option<Instant>) -> Result<Value, Failed> {
        loop {
            let room = self.room.notified();
            match self.place(full.0, until)? {
                Ok(reply) => return reply.await,
                Err(still) => full = still,
            }
            match until {
                Some(until) => {
                    tokio::time::timeout_at(until, room).await.map_err(|_| Failed::Late)?;
                }
                None => room.await,
            }
        }
    }

    fn place(&self, asked: Asked, until: Option<Instant>) -> Result<Result<Reply<'_>, Full>, Failed> {
        let mut state = self.lock();
        if state.waiting.len() + state.sent_count >= self.most {
            state.crowded = true;
            return Ok(Err(Full(asked)));
        }
        let place = state.take(asked, until)?;
        // While replies are outstanding the driver wakes up by itself, unless somebody is less patient than it expects.
        let is_early = until.is_some_and(|until| state.armed.is_none_or(|armed| until < armed));
        let driver = if state.sent.is_empty() || is_early { state.driver.take() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(Ok(Reply { callers: self, place: Some(place) }))
    }

    fn wake_driver(&self) {
        let driver = self.lock().driver.take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The driver is about to look, and is woken by what comes later.
    pub(super) fn driven(&self, by: &Waker) {
        let mut state = self.lock();
        let before = match &state.driver {
            Some(known) if known.will_wake(by) => None,
            _ => state.driver.replace(by.clone()),
        };
        drop(state);
        drop(before);
    }

    /// Puts the next piece into `out`: all who wait, but for those who have left, once nobody is waited for any more.
    pub(super) fn next_piece(&self, out: &mut Vec<u8>) {
        let state = &mut *self.lock();
        if !state.sent.is_empty() {
            return;
        }
        let mut usual = Vec::new();
        while state.sent.len() + usual.len() < TOGETHER_MOST
            && let Some((place, asked)) = state.waiting.pop_front()
        {
            match (&state.places[place as usize].stage, asked) {
                (Stage::Left, _) => state.give_back(place),
                (_, Asked::Alone(command)) => {
                    out.extend_from_slice(&command);
                    state.send(Places::One(Some(place)));
                }
                (_, Asked::Usual(one)) => usual.push((Some(place), one)),
            }
        }
        while let Some((_, first)) = usual.first() {
            let first = first.clone();
            let together = usual.extract_if(.., |(_, one)| one.goes_with(&first));
            let (places, all): (Vec<_>, Vec<_>) = together.take(usual::TOGETHER_MOST).unzip();
            out.extend_from_slice(&usual::together(&all).bytes(None));
            state.send(Places::Several(places));
        }
    }

    /// The next reply came. False where it answers nothing that was asked.
    pub(super) fn told(&self, value: Value, woken: &mut Vec<Waker>) -> bool {
        let mut state = self.lock();
        match (state.sent.pop_front(), value) {
            (Some(Places::One(place)), value) => state.answer(place, value, woken),
            (Some(Places::Several(places)), Value::Array(values)) if values.len() == places.len() => {
                for (place, value) in places.into_iter().zip(values) {
                    state.answer(place, value, woken);
                }
            }
            (Some(Places::Several(places)), error @ Value::ServerError(_)) => {
                for place in places {
                    state.answer(place, error.clone(), woken);
                }
            }
            (Some(places), _) => {
                state.sent.push_front(places);
                return false;
            }
            (None, _) => return false,
        }
        if std::mem::take(&mut state.crowded) {
            drop(state);
            self.room.notify_waiters();
        }
        true
    }

    /// Tells those whose patience is over. Says when that will next be so.
    pub(super) fn expire(&self, now: Instant, woken: &mut Vec<Waker>) -> Option<Instant> {
        let state = &mut *self.lock();
        if state.due.is_none_or(|due| now < due) {
            state.armed = state.due;
            return state.due;
        }
        let State { places, sent, waiting, .. } = &mut *state;
        let is_over = |place: &u32| places[*place as usize].until.is_some_and(|until| until <= now);
        let mut over: Vec<u32> = sent.iter().flat_map(Places::waited_for).filter(is_over).collect();
        // Their replies come all the same.
        let all = sent.iter_mut().flat_map(Places::all_mut);
        all.filter(|place| place.as_ref().is_some_and(is_over)).for_each(|place| *place = None);
        over.extend(waiting.iter().map(|(place, _)| *place).filter(is_over));
        waiting.retain(|(place, _)| !is_over(place));
        let left = sent.iter().flat_map(Places::waited_for).chain(waiting.iter().map(|(place, _)| *place));
        state.due = left.filter_map(|place| places[place as usize].until).min();
        state.armed = state.due;
        for place in over {
            woken.extend(state.tell(place, Err(Failed::Late)));
        }
        state.due
    }

    /// Nobody is answered any more.
    pub(super) fn end(&self, error: RedisError, woken: &mut Vec<Waker>) {
        let mut state = self.lock();
        let sent = std::mem::take(&mut state.sent);
        state.sent_count = 0;
        let waiting = std::mem::take(&mut state.waiting).into_iter().map(|(place, _)| place);
        for place in sent.iter().flat_map(Places::waited_for).chain(waiting) {
            woken.extend(state.tell(place, Err(Failed::Lost(error.clone()))));
        }
        state.ended.get_or_insert(error);
        drop(state);
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn take(&mut self, asked: Asked, until: Option<Instant>) -> Result<u32, Failed> {
        if let Some(error) = &self.ended {
            return Err(Failed::Lost(error.clone()));
        }
        let place = Place { stage: Stage::Waits(None), until };
        let at = match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = place;
                at
            }
            None => {
                self.places.push(place);
                (self.places.len() - 1) as u32
            }
        };
        self.waiting.push_back((at, asked));
        if let Some(until) = until {
            self.due = Some(self.due.map_or(until, |due| due.min(until)));
        }
        Ok(at)
    }

    fn send(&mut self, places: Places) {
        self.sent_count += places.all().len();
        self.sent.push_back(places);
    }

    /// What was sent is answered.
    fn answer(&mut self, place: Option<u32>, value: Value, woken: &mut Vec<Waker>) {
        self.sent_count -= 1;
        if let Some(place) = place {
            woken.extend(self.tell(place, Ok(value)));
        }
    }

    fn tell(&mut self, at: u32, told: Result<Value, Failed>) -> Option<Waker> {
        let place = &mut self.places[at as usize];
        match std::mem::replace(&mut place.stage, Stage::Told(told)) {
            Stage::Waits(waker) => waker,
            _ => {
                self.give_back(at);
                None
            }
        }
    }

    fn give_back(&mut self, at: u32) {
        self.places[at as usize].stage = Stage::Free;
        self.free.push(at);
    }
}

// === impl Asked ===

impl From<Vec<u8>> for Asked {
    fn from(command: Vec<u8>) -> Asked {
        Asked::Alone(command)
    }
}

// === impl Places ===

impl Places {
    fn all(&self) -> &[Option<u32>] {
        match self {
            Places::One(place) => std::slice::from_ref(place),
            Places::Several(places) => places,
        }
    }

    fn all_mut(&mut self) -> &mut [Option<u32>] {
        match self {
            Places::One(place) => std::slice::from_mut(place),
            Places::Several(places) => places,
        }
    }

    /// Those that somebody waits for.
    fn waited_for(&self) -> impl Iterator<Item = u32> {
        self.all().iter().copied().flatten()
    }
}

// === impl Reply ===

impl Future for Reply<'_> {
    type Output = Result<Value, Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = || Poll::Ready(Err(Failed::Late));
        let Some(at) = self.place else { return gone() };
        let mut state = self.callers.lock();
        let before = match &mut state.places[at as usize].stage {
            Stage::Waits(Some(known)) if known.will_wake(cx.waker()) => None,
            Stage::Waits(waker) => waker.replace(cx.waker().clone()),
            stage => {
                let told = std::mem::replace(stage, Stage::Free);
                state.free.push(at);
                drop(state);
                self.place = None;
                return if let Stage::Told(told) = told { Poll::Ready(told) } else { gone() };
            }
        };
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        let Some(at) = self.place else { return };
        let mut state = self.callers.lock();
        let stage = std::mem::replace(&mut state.places[at as usize].stage, Stage::Left);
        if matches!(stage, Stage::Told(_)) {
            state.give_back(at);
        }
        drop(state);
        // Its waker.
        drop(stage);
    }
}
