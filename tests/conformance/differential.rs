//! Random commands on a store with real Redis behind it, and on the pure ledger: the same outcomes. Time is the store's
//! own clock, which never goes back: setting it to a far day makes it stand still, and later moves it on by hand. Two
//! gateways share the server: one remembers what it completed, and answers copies under a key itself; of what the other is
//! asked, it knows nothing.

use super::bench::Bench;
use super::support::*;
use futures_util::future::join_all;
use oncegate::domain::answer::Answer;
use oncegate::domain::fingerprint::Fingerprint;
use oncegate::domain::ledger::{Change, Command, Doubt, Outcome, Phase, Record, RecordId};
use oncegate::domain::ledger::{TargetId, Token, Verdict, apply};
use oncegate::domain::time::Millis;
use oncegate::store::{ClaimRequest, Claimed, Completion, EndIntents, Held, Settle, Settled};
use oncegate::store::{Store, StoreError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Do {
    Claim { n: u8, meaning: u8, sent: bool, again: bool, elsewhere: bool },
    MarkSent { n: u8, right: bool },
    Renew { n: u8, right: bool, lease: u16 },
    Complete { n: u8, right: bool, body: u16, keep: u16, ends: Option<u8>, names: Option<u8> },
    Abandon { n: u8, right: bool },
    Doubt { n: u8, right: bool },
    End { target: u8, by: Option<u8> },
    Executed { n: u8 },
    NotExecuted { n: u8 },
    Delete { n: u8 },
    Pass { millis: u16 },
}

fn step() -> impl Strategy<Value = Do> {
    let n = 1..6_u8;
    let right = prop::bool::weighted(0.85);
    let targets = prop::option::weighted(0.3, 1..4_u8);
    prop_oneof![
        8 => (n.clone(), 1..3_u8, prop::bool::weighted(0.7), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(n, meaning, sent, again, elsewhere)| Do::Claim { n, meaning, sent, again, elsewhere }),
        3 => (n.clone(), right).prop_map(|(n, right)| Do::MarkSent { n, right }),
        3 => (n.clone(), right, 1..6_000_u16).prop_map(|(n, right, lease)| Do::Renew { n, right, lease }),
        6 => (n.clone(), right, 0..12_000_u16, prop_oneof![1..9_000_u16, 20_000..60_000_u16], targets.clone(), targets)
            .prop_map(|(n, right, body, keep, ends, names)| Do::Complete { n, right, body, keep, ends, names }),
        2 => (n.clone(), right).prop_map(|(n, right)| Do::Abandon { n, right }),
        2 => (n.clone(), right).prop_map(|(n, right)| Do::Doubt { n, right }),
        2 => (1..4_u8, prop::option::of(n.clone())).prop_map(|(target, by)| Do::End { target, by }),
        1 => n.clone().prop_map(|n| Do::Executed { n }),
        1 => n.clone().prop_map(|n| Do::NotExecuted { n }),
        1 => n.prop_map(|n| Do::Delete { n }),
        4 => (1..4_000_u16).prop_map(|millis| Do::Pass { millis }),
    ]
}

/// What the ledger alone says.
#[derive(Default)]
struct Model {
    records: BTreeMap<RecordId, Record<Answer>>,
    names: BTreeMap<RecordId, TargetId>,
    tokens: BTreeMap<u8, Token>,
    last: u128,
}

// === impl Model ===

impl Model {
    fn run(&mut self, id: RecordId, command: Command<Answer>, now: Millis) -> Outcome<Answer> {
        let step = apply(self.records.get(&id), command, now);
        match step.change {
            Change::Keep => {}
            Change::Put(record) => drop(self.records.insert(id, record)),
            Change::Remove => {
                self.records.remove(&id);
                self.names.remove(&id);
            }
        }
        step.outcome
    }

    fn token(&self, n: u8, right: bool) -> Token {
        if right { self.tokens.get(&n).copied().unwrap_or(Token(u128::MAX)) } else { Token(u128::MAX - 1) }
    }

    /// A claim, and what it comes to.
    fn claim(
        &mut self,
        store: &Store,
        (n, meaning): (u8, u8),
        sent: bool,
        again: bool,
        now: Millis,
    ) -> (ClaimRequest, Outcome<Answer>) {
        self.last += 1;
        let token = if again { self.token(n, true) } else { Token(self.last) };
        let mut request = claim(store, n, token.0);
        request.claim.keyed = n % 2 == 1;
        request.claim.fingerprint = Fingerprint([if n % 2 == 1 { meaning } else { n }; 32]);
        request.claim.target = TargetId([n % 3 + 1; 16]);
        (request.claim.sent, request.claim.lease) = (sent, Duration::from_millis(3_000));
        request.claim.in_doubt_for = Duration::from_millis(20_000);
        let expected = self.run(id(n), Command::Claim(request.claim.clone()), now);
        if expected == Outcome::Granted && self.tokens.insert(n, token) != Some(token) {
            self.names.remove(&id(n));
        }
        (request, expected)
    }

    fn end(&mut self, ends: &EndIntents, now: Millis) {
        let concerned = |model: &Model, id: &RecordId| {
            let record = model.records.get(id);
            record.is_some_and(|record| ends.concerns(record, model.names.get(id).copied()))
        };
        let ids: Vec<RecordId> = self.records.keys().filter(|id| concerned(self, id)).copied().collect();
        for id in ids {
            self.run(id, Command::End { by: ends.by }, now);
        }
    }
}

impl Bench {
    /// The same step on the store and on the ledger.
    async fn both(&mut self, model: &mut Model, step: &Do) {
        let now = Millis(self.now);
        let store = &self.store;
        match *step {
            Do::Claim { n, meaning, sent, again, elsewhere } => {
                let store = if elsewhere { &self.other } else { store };
                let (request, expected) = model.claim(store, (n, meaning), sent, again, now);
                let got = store.claim(request).await.expect("the store works");
                assert!(is_same(&got, &expected), "{got:?} is not {expected:?}");
            }
            Do::MarkSent { n, right } => {
                let token = model.token(n, right);
                let expected = held(&model.run(id(n), Command::MarkSent { token }, now));
                assert_eq!(store.mark_sent(id(n), token).await, Ok(expected));
            }
            Do::Renew { n, right, lease } => {
                let (token, lease) = (model.token(n, right), Duration::from_millis(lease.into()));
                let expected = held(&model.run(id(n), Command::Renew { token, lease }, now));
                assert_eq!(store.renew(id(n), token, lease).await, Ok(expected));
            }
            Do::Complete { n, right, body, keep, ends, names } => {
                let (token, keep) = (model.token(n, right), Duration::from_millis(keep.into()));
                let answer = answer(201, &"y".repeat(body.into()));
                let was_done = model
                    .records
                    .get(&id(n))
                    .is_some_and(|record| matches!(record.phase, Phase::Done { .. }));
                let command = Command::Complete { token, answer: answer.clone(), keep };
                let expected = held(&model.run(id(n), command, now));
                let names = names.map(|names| TargetId([names; 16]));
                let ends = ends.map(|target| EndIntents {
                    by: Some(Fingerprint([n; 32])),
                    ..change_of(TargetId([target; 16]))
                });
                if expected == Held::Yes && !was_done {
                    if let (Some(names), true) = (names, model.records.contains_key(&id(n))) {
                        model.names.entry(id(n)).or_insert(names);
                    }
                    ends.iter().for_each(|ends| model.end(ends, now));
                }
                let completion = Completion { keep, ends, names, ..completion(n, token.0, answer) };
                assert_eq!(store.complete(completion).await, Ok(expected));
            }
            Do::Abandon { n, right } => {
                let token = model.token(n, right);
                let expected = held(&model.run(id(n), Command::Abandon { token }, now));
                assert_eq!(store.abandon(id(n), token, None).await, Ok(expected));
            }
            Do::Doubt { n, right } => {
                let (token, why) = (model.token(n, right), Doubt::TimedOut);
                let expected = held(&model.run(id(n), Command::Doubt { token, why }, now));
                assert_eq!(store.doubt(id(n), token, why).await, Ok(expected));
            }
            Do::End { target, by } => {
                let by = by.map(|by| Fingerprint([by; 32]));
                let ends =
                    EndIntents { by, parents: vec![TargetId([3; 16])], ..change_of(TargetId([target; 16])) };
                model.end(&ends, now);
                store.end_intents(ends).await.expect("the store works");
            }
            Do::Executed { n } => {
                let (answer, keep) = (answer(200, "settled"), Duration::from_millis(5_000));
                let verdict = Verdict::Executed { answer: answer.clone(), keep };
                self.settled(
                    model,
                    n,
                    Command::Resolve { token: None, verdict },
                    Settle::Executed { answer, keep, follows: None },
                )
                .await;
            }
            Do::NotExecuted { n } => {
                let command = Command::Resolve { token: None, verdict: Verdict::NotExecuted };
                self.settled(model, n, command, Settle::NotExecuted).await;
            }
            Do::Delete { n } => self.settled(model, n, Command::Delete, Settle::Delete).await,
            Do::Pass { millis } => self.passed(millis.into()).await,
        }
    }

    async fn settled(&self, model: &mut Model, n: u8, command: Command<Answer>, how: Settle) {
        let expected = held(&model.run(id(n), command, Millis(self.now))) == Held::Yes;
        let got = self.store.settle(id(n), how).await.expect("the store works");
        assert_eq!(got == Settled::Yes, expected, "{got:?}");
    }
}

fn is_same(got: &Claimed, expected: &Outcome<Answer>) -> bool {
    match (got, expected) {
        (Claimed::Granted, Outcome::Granted) | (Claimed::OtherMeaning, Outcome::OtherMeaning) => true,
        (Claimed::InFlight(_), Outcome::InFlight { .. }) => true,
        (Claimed::Done(got), Outcome::Done { answer, .. }) => got.as_bytes() == answer.as_bytes(),
        (
            Claimed::InDoubt { token, since, until, why },
            Outcome::InDoubt { token: a, since: b, until: c, why: d },
        ) => (token, since, until, why) == (a, b, c, d),
        _ => false,
    }
}

fn held(outcome: &Outcome<Answer>) -> Held {
    if *outcome == Outcome::Applied { Held::Yes } else { Held::No }
}

/// What is asked together: claims, several of one record among them, and completions of other records.
#[derive(Clone, Debug, Default)]
struct Together {
    claims: Vec<(u8, u8)>,
    /// Which one, whether by its attempt, the size of its answer, and the target that this one names.
    completions: BTreeMap<u8, (bool, u16, Option<u8>)>,
    pass: u16,
}

fn together() -> impl Strategy<Value = Together> {
    let claims = prop::collection::vec((1..6_u8, 1..3_u8), 0..9);
    let named = prop::option::weighted(0.3, 1..4_u8);
    let completion = (prop::bool::weighted(0.85), prop_oneof![0..200_u16, 7_000..12_000_u16], named);
    let completions = prop::collection::btree_map(1..6_u8, completion, 0..5);
    let pass = prop_oneof![4 => Just(0), 2 => 1..4_000_u16, 1 => Just(25_000)];
    (claims, completions, pass).prop_map(|(claims, mut completions, pass)| {
        // Beside a claim of its record it would come before that or behind it.
        completions.retain(|n, _| !claims.iter().any(|(claimed, _)| claimed == n));
        Together { claims, completions, pass }
    })
}

impl Bench {
    /// On the store at once, on the ledger one after another.
    async fn all_at_once(&mut self, model: &mut Model, all: &Together) {
        self.passed(all.pass.into()).await;
        let (store, now) = (&self.store, Millis(self.now));
        let claims = all.claims.iter().map(|one| model.claim(store, *one, true, false, now));
        let (claims, outcomes): (Vec<_>, Vec<_>) = claims.unzip();
        let completions = all.completions.iter().map(|(n, (right, size, named))| {
            let (token, keep) = (model.token(*n, *right), Duration::from_millis(40_000));
            let answer = answer(201, &"y".repeat((*size).into()));
            let named = named.map(|named| TargetId([named; 16]));
            let command = Command::Complete { token, answer: answer.clone(), keep };
            let expected = held(&model.run(id(*n), command, now));
            (Completion { keep, names: named, ..completion(*n, token.0, answer) }, expected)
        });
        let (completions, held): (Vec<_>, Vec<_>) = completions.unzip();
        let (got, completed) = tokio::join!(
            join_all(claims.into_iter().map(|request| store.claim(request))),
            join_all(completions.into_iter().map(|completion| store.complete(completion))),
        );
        for (got, expected) in got.iter().zip(&outcomes) {
            let got = got.as_ref().expect("the store works");
            assert!(is_same(got, expected), "{got:?} is not {expected:?}");
        }
        assert_eq!(completed.into_iter().collect::<Result<Vec<Held>, StoreError>>(), Ok(held));
    }
}

/// What a step leaves, as an operator sees it.
async fn same_records(bench: &Bench, model: &Model) {
    for n in 1..6 {
        let shown = bench.store.show(id(n)).await.expect("the store works");
        let mut aged = Model { records: model.records.clone(), ..Model::default() };
        // A refused command only lets time pass.
        aged.run(id(n), Command::MarkSent { token: Token(u128::MAX - 1) }, Millis(bench.now));
        let expected = aged.records.get(&id(n)).map(|record| match &record.phase {
            Phase::Queued { lease_until, .. } => ("queued", *lease_until),
            Phase::Sent { lease_until, .. } => ("sent", *lease_until),
            Phase::Done { until, .. } => ("done", *until),
            Phase::InDoubt { until, .. } => ("in-doubt", *until),
        });
        assert_eq!(shown.as_ref().map(|view| (view.phase.as_str(), view.until)), expected, "record {n}");
    }
    bench.sets_are_whole();
}

/// Runs random histories, each on a store without records.
pub fn each_history<T: std::fmt::Debug>(
    histories: impl Strategy<Value = Vec<T>>,
    run: impl AsyncFn(&mut Bench, &[T]),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = std::cell::RefCell::new(Bench::start());
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(history in histories)| {
        let mut bench = bench.borrow_mut();
        bench.clear();
        runtime.block_on(async {
            for n in 1..6 {
                // The gateway remembers them.
                let gone = bench.store.settle(id(n), Settle::Delete).await;
                assert_eq!(gone, Ok(Settled::NotFound));
            }
            run(&mut bench, &history).await;
        });
    });
}

#[test]
fn redis_says_what_the_ledger_says() {
    each_history(prop::collection::vec(step(), 1..60), async |bench, steps| {
        let mut model = Model::default();
        for (at, step) in steps.iter().enumerate() {
            bench.both(&mut model, step).await;
            if at % 8 == 7 {
                same_records(bench, &model).await;
            }
        }
        same_records(bench, &model).await;
    });
}

#[test]
fn what_redis_is_asked_at_once_is_what_the_ledger_says_one_after_another() {
    each_history(prop::collection::vec(together(), 1..12), async |bench, all| {
        let mut model = Model::default();
        for one in all {
            bench.all_at_once(&mut model, one).await;
            same_records(bench, &model).await;
        }
    });
}

#[test]
fn a_quota_holds_for_claims_that_are_asked_at_once_and_these_are_one_command() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench::start();
    let commands = || {
        let told = bench.server.cli(&["info", "commandstats"]);
        let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_dbsize:calls="));
        line.and_then(|line| line.split(',').next()?.parse::<u32>().ok()).unwrap_or_default()
    };
    // Connects.
    runtime.block_on(bench.store.claim(claim(&bench.store, 8, 8))).expect("the store works");
    let claims = (0..8).map(|n| ClaimRequest { quota: 4, ..claim(&bench.store, n, n.into()) });
    let asked = commands();
    let told = runtime.block_on(join_all(claims.map(|request| bench.store.claim(request))));
    let granted = told.iter().filter(|told| matches!(told, Ok(Claimed::Granted))).count();
    let refused = told.iter().filter(|told| matches!(told, Ok(Claimed::OverQuota))).count();
    assert_eq!((granted, refused), (3, 5), "{told:?}");
    // Claims ask how many keys there are, once a command.
    assert_eq!(commands() - asked, 1);
}

#[test]
fn a_change_moves_the_clock_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench::on_the_servers_time();
    let number =
        |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok()).expect("a number");
    let clock = || number(bench.server.cli(&["get", "{oncegate}clock"]).split(' ').next());
    let time = || {
        let told = bench.server.cli(&["time"]);
        let mut parts = told.lines();
        number(parts.next()) * 1_000 + number(parts.next()) / 1_000
    };
    let before = time();
    runtime.block_on(bench.store.claim(claim(&bench.store, 1, 1))).expect("the store works");
    assert!(clock() >= before);
    let before = time();
    let done = completion(1, 1, answer(201, "done"));
    assert_eq!(runtime.block_on(bench.store.complete(done)), Ok(Held::Yes));
    assert!(clock() >= before);
}

#[test]
fn a_record_of_the_format_before_is_answered_and_removed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench::start();
    let claimed = |token| runtime.block_on(bench.store.claim(claim(&bench.store, 1, token)));
    assert!(matches!(claimed(1), Ok(Claimed::Granted)));
    let done = completion(1, 1, answer(201, "done"));
    assert_eq!(runtime.block_on(bench.store.complete(done)), Ok(Held::Yes));
    let back = "local key = redis.call('keys', '{oncegate}r:*')[1] \
                local bytes, answer = redis.call('get', key), string.gsub(key, '}r:', '}a:') \
                local at = cmsgpack.unpack_one(bytes) \
                redis.call('set', answer, string.sub(bytes, at + 1)) \
                redis.call('set', key, string.sub(bytes, 1, 3) .. '\\1' .. string.sub(bytes, 5, at))";
    bench.server.cli(&["eval", back, "0"]);
    assert!(
        matches!(claimed(2), Ok(Claimed::Done(kept)) if kept.as_bytes() == answer(201, "done").as_bytes())
    );
    assert_eq!(runtime.block_on(bench.store.settle(id(1), Settle::Delete)), Ok(Settled::Yes));
    let left = "return #redis.call('keys', '{oncegate}[ra]:*')";
    assert_eq!(bench.server.cli(&["eval", left, "0"]).trim(), "0");
}

#[test]
fn what_is_over_leaves_the_sets_of_its_scope_and_its_target() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut bench = Bench::start();
    let claimed = |bench: &Bench, n: u8| {
        let request = claim(&bench.store, n, n.into());
        let got = runtime.block_on(bench.store.claim(request)).expect("the store works");
        assert!(matches!(got, Claimed::Granted), "{got:?}");
    };
    for n in 1..16 {
        claimed(&bench, n);
        // Some live longer by their answer than they would have by their claim.
        let keep = MINUTE * if n % 2 == 0 { 1 } else { 90 };
        let done = Completion { keep, ..completion(n, n.into(), answer(201, "done")) };
        assert_eq!(runtime.block_on(bench.store.complete(done)), Ok(Held::Yes));
    }
    bench.sets_are_whole();
    let most = "local most = 0 for _, key in ipairs(redis.call('keys', '{oncegate}[st]:*')) do \
                most = math.max(most, redis.call('zcard', key)) end return most";
    assert_eq!(bench.server.cli(&["eval", most, "0"]).trim(), "15");
    bench.pass(2 * 60 * 60_000);
    // One claim in sixteen looks after them, whichever it is.
    claimed(&bench, 16);
    assert_eq!(bench.server.cli(&["eval", most, "0"]).trim(), "1", "entries of what is over");
}
