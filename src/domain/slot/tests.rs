use super::*;
use crate::domain::canon::{Fields, JsonPath};
use crate::domain::client::ScopeId;
use crate::domain::conflict::Sought;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::ledger::{RecordId, Token};
use crate::domain::selector::{Selector, Source, Template, Zone};
use crate::domain::time::Millis;
use http::HeaderMap;
use std::time::Duration;

const NOW: Millis = Millis(1_000);
const ANN: ScopeId = ScopeId([1; 16]);
const BOB: ScopeId = ScopeId([2; 16]);

fn selector(text: &str) -> Selector {
    Selector::parse(text, &Zone::utc()).expect(text)
}

fn policy(by: &[&str]) -> SlotPolicy {
    SlotPolicy {
        name: "slot".into(),
        by: by.iter().map(|text| selector(text)).collect(),
        capacity: 1,
        hold: HoldFor::Duration(Duration::from_secs(60)),
        missing: MissingRule::Refuse,
        id: Some(selector("path:id")),
        readable: true,
        recover: None,
    }
}

fn digest() -> FingerprintKey {
    FingerprintKey::new(b"secret")
}

fn json(body: &str) -> Fields {
    Fields::Json(crate::domain::canon::Document::parse(body.as_bytes()).expect(body))
}

fn looking<T>(body: &str, look: impl FnOnce(&Source<'_>) -> T) -> T {
    let (headers, fields) = (HeaderMap::new(), json(body));
    look(&Source { path: &[("id", "7")], query: None, headers: &headers, body: &fields })
}

fn wanted(policy: &SlotPolicy, body: &str) -> Wanted {
    looking(body, |source| policy.wanted(&digest(), source, ANN)).expect("a slot").expect("a slot")
}

/// A hold of what `body` asks for, settled as held.
fn held(policy: &SlotPolicy, body: &str, token: u128) -> Known {
    let wanted = wanted(policy, body);
    let hold = Hold::reserved(&wanted, Token(token), RecordId([1; 32]), "r".into(), NOW);
    Known { slot: wanted.slot, hold: hold.settled(End::Held, None, NOW) }
}

fn plan(policy: &SlotPolicy, body: &str, known: &[Known], asks: Asks) -> Change {
    looking(body, |source| Change::plan(policy, &digest(), source, known, (asks, BOB, NOW))).expect("a plan")
}

/// The one place that a change takes.
fn takes(change: Change) -> Wanted {
    match change {
        Change::Takes(mut places) if places.len() == 1 => places.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_in_other_places_are_other_slots() {
    let digest = digest();
    let slot = |name: &str, body: &str| {
        let policy = SlotPolicy { name: name.into(), ..policy(&["$.a", "$.b"]) };
        (wanted(&policy, body).slot, digest.booking_id(name, "7"))
    };
    let all = [
        slot("slot", r#"{"a":1,"b":2}"#),
        slot("slot", r#"{"a":2,"b":1}"#),
        slot("slot", r#"{"a":12,"b":""}"#.replace("\"\"", "\"-\"").as_str()),
        slot("room", r#"{"a":1,"b":2}"#),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other.0 != one.0), "{at}");
    }
    assert_ne!(all[0].1, all[3].1, "a booking's id counts within its slot's name");
    assert_eq!(slot("slot", r#"{"a":"1 ","b":2.0}"#).0, all[0].0);
    assert_ne!(FingerprintKey::new(b"another").booking_id("slot", "7"), all[0].1);
}

#[test]
fn what_is_missing_is_refused_or_takes_no_slot_and_what_is_unreadable_is_refused() {
    let strict = policy(&["$.a"]);
    let skips = SlotPolicy { missing: MissingRule::Skip, ..policy(&["$.a"]) };
    let ask = |policy: &SlotPolicy, body| looking(body, |source| policy.wanted(&digest(), source, ANN));
    assert_eq!(ask(&strict, "{}").expect_err("missing").unreadable, None);
    assert_eq!(ask(&skips, "{}"), Ok(None));
    let (headers, fields) = (HeaderMap::new(), Fields::Unreadable("odd"));
    let odd = Source { path: &[], query: None, headers: &headers, body: &fields };
    assert!(skips.wanted(&digest(), &odd, ANN).expect_err("unreadable").unreadable.is_some());
    assert!(looking("{}", |source| skips.question(&digest(), source)).is_err(), "a question without a value");
}

#[test]
fn a_hold_ends_when_its_duration_or_the_instant_of_the_request_says() {
    let until =
        SlotPolicy { hold: HoldFor::Until(Box::new(selector("$.end")), Zone::utc()), ..policy(&["$.a"]) };
    assert_eq!(wanted(&until, r#"{"a":1,"end":"1970-01-01T00:01"}"#).keep, Keep::Until(Millis(60_000)));
    assert_eq!(wanted(&policy(&["$.a"]), r#"{"a":1}"#).keep.end(NOW), Millis(61_000));
    let soon = looking(r#"{"a":1,"end":"soon"}"#, |source| until.wanted(&digest(), source, ANN));
    assert!(soon.expect_err("no date").unreadable.is_some());
    assert_eq!(
        looking(r#"{"a":1}"#, |source| until.wanted(&digest(), source, ANN)).expect_err("none").unreadable,
        None
    );
}

#[test]
fn a_partial_change_is_completed_by_what_is_known() {
    let policy = policy(&["$.clinic | header:X-Clinic", "$.doctor", "$.slot"]);
    let known = [held(&policy, r#"{"clinic":1,"doctor":"Rao","slot":5}"#, 9)];
    let moved = takes(plan(&policy, r#"{"slot":6}"#, &known, Asks::Nothing));
    assert_eq!(moved.slot, wanted(&policy, r#"{"clinic":1,"doctor":"Rao","slot":6}"#).slot);
    assert_eq!(moved.instead_of, Some(HoldKey { slot: known[0].slot, token: Token(9) }));
    assert_eq!((moved.witness, moved.asleep), (ANN, false), "it stays the booking of who made it");
    assert_eq!(&*moved.label, "1 | Rao | 6");
    for nothing in [r#"{"note":"x"}"#, r#"{"slot":null}"#] {
        assert_eq!(plan(&policy, nothing, &known, Asks::Nothing), Change::Nothing, "{nothing}");
    }
    for same in [r#"{"slot":"5"}"#, r#"{"clinic":1,"doctor":"Rao","slot":5}"#] {
        let looks = takes(plan(&policy, same, &known, Asks::Nothing));
        assert!(looks.looks && looks.instead_of == Some(known[0].key()), "it relies on what it has: {same}");
    }
}

#[test]
fn a_move_has_to_name_the_end_of_its_new_slot() {
    let hold = HoldFor::Until(Box::new(selector("$.end")), Zone::utc());
    let policy = SlotPolicy { hold, ..policy(&["$.doctor", "$.start"]) };
    let known = [held(&policy, r#"{"doctor":"Rao","start":9,"end":"1970-01-01T00:01"}"#, 9)];
    let ask = |body, asks| {
        looking(body, |source| Change::plan(&policy, &digest(), source, &known, (asks, BOB, NOW)))
    };
    for asks in [Asks::Nothing, Asks::Release, Asks::Resume] {
        let problem = ask(r#"{"start":10}"#, asks).expect_err("the old end says nothing of the new slot");
        assert_eq!((problem.selector.as_str(), problem.unreadable, problem.of_end), ("$.end", None, true));
    }
    let moved = takes(ask(r#"{"start":10,"end":"1970-01-01T00:02"}"#, Asks::Nothing).expect("a plan"));
    assert_eq!(moved.keep, Keep::Until(Millis(120_000)));
    let same = takes(ask(r#"{"start":9}"#, Asks::Nothing).expect("a plan"));
    assert_eq!((same.keep, same.looks), (Keep::Until(Millis(60_000)), true));
}

#[test]
fn another_end_takes_the_same_slot_anew() {
    let hold = HoldFor::Until(Box::new(selector("$.end")), Zone::utc());
    let policy = SlotPolicy { hold, ..policy(&["$.room"]) };
    let known = [held(&policy, r#"{"room":1,"end":"1970-01-01T00:01"}"#, 9)];
    for body in [r#"{"end":"1970-01-01T00:02"}"#, r#"{"room":1,"end":"1970-01-01T00:02"}"#] {
        let longer = takes(plan(&policy, body, &known, Asks::Nothing));
        assert_eq!((longer.slot, longer.instead_of), (known[0].slot, Some(known[0].key())), "{body}");
        assert_eq!((longer.keep, longer.looks, longer.asleep), (Keep::Until(Millis(120_000)), false, false));
        assert_eq!(refusal([&known[0].hold], &longer, Token(10), NOW), None, "its own place is no obstacle");
    }
    for nothing in [r#"{"end":"1970-01-01T00:01"}"#, r#"{"end":"soon"}"#, "{}"] {
        assert_eq!(plan(&policy, nothing, &known, Asks::Nothing), Change::Nothing, "{nothing}");
    }
    let cancel = plan(&policy, r#"{"end":"1970-01-01T00:02"}"#, &known, Asks::Release);
    assert!(takes(cancel).looks, "what is given back has no end");
}

#[test]
fn of_an_unknown_booking_a_part_is_not_enough() {
    let policy = policy(&["$.clinic", "$.slot"]);
    let part = |policy: &SlotPolicy| {
        looking(r#"{"slot":6}"#, |source| {
            Change::plan(policy, &digest(), source, &[], (Asks::Nothing, BOB, NOW))
        })
    };
    assert_eq!(part(&policy).expect_err("the clinic is missing").selector, "$.clinic");
    assert_eq!(part(&SlotPolicy { missing: MissingRule::Skip, ..policy.clone() }), Ok(Change::Nothing));
    let whole = takes(plan(&policy, r#"{"clinic":1,"slot":6}"#, &[], Asks::Nothing));
    assert_eq!((whole.instead_of, whole.witness), (None, BOB));
    assert_eq!(plan(&policy, r#"{"status":"ACTIVE"}"#, &[], Asks::Resume), Change::Nothing);
}

#[test]
fn a_booking_that_is_being_changed_is_busy() {
    let policy = policy(&["$.slot"]);
    let old = held(&policy, r#"{"slot":5}"#, 9);
    let to = wanted(&policy, r#"{"slot":6}"#);
    let to = Wanted { instead_of: Some(old.key()), ..to };
    let moving = Hold::reserved(&to, Token(10), RecordId([2; 32]), "r".into(), NOW);
    for hold in [moving.clone(), moving.unsettled(NOW)] {
        let known = [old.clone(), Known { slot: to.slot, hold }];
        assert_eq!(plan(&policy, r#"{"slot":7}"#, &known, Asks::Nothing), Change::Busy);
    }
    let over = Known { hold: Hold { until: NOW, ..old.hold.clone() }, ..old };
    assert!(takes(plan(&policy, r#"{"slot":7}"#, &[over], Asks::Nothing)).instead_of.is_none());
}

#[test]
fn a_paused_booking_moves_without_a_place_and_comes_back_with_one() {
    let policy = policy(&["$.slot"]);
    let held = held(&policy, r#"{"slot":5}"#, 9);
    let paused = [Known { hold: held.hold.released(NOW), ..held.clone() }];
    assert_eq!(plan(&policy, "{}", &paused, Asks::Nothing), Change::Nothing);
    for asks in [Asks::Nothing, Asks::Release] {
        let same = takes(plan(&policy, r#"{"slot":5}"#, &paused, asks));
        assert!(
            same.looks && same.was_released && !same.asleep,
            "nobody resumes it and moves it away before this one arrives"
        );
    }
    let asleep = takes(plan(&policy, r#"{"slot":6}"#, &paused, Asks::Nothing));
    assert!(asleep.asleep && asleep.instead_of.is_some());
    let back = takes(plan(&policy, "{}", &paused, Asks::Resume));
    assert_eq!((back.slot, back.asleep, back.instead_of), (held.slot, false, Some(held.key())));
    for asks in [Asks::Resume, Asks::Release] {
        let awake = takes(plan(&policy, "{}", std::slice::from_ref(&held), asks));
        assert!(awake.looks && !awake.asleep, "one change at a time");
    }
    let gone = takes(plan(&policy, r#"{"slot":6}"#, &[held], Asks::Release));
    assert!(gone.asleep, "moved and paused at once");
    let hold = Hold::reserved(&gone, Token(11), RecordId([3; 32]), "r".into(), NOW);
    assert!(!hold.occupies(NOW));
    assert_eq!(hold.settled(End::Held, None, NOW).state, HoldState::Released);
}

#[test]
fn a_booking_with_several_places_is_changed_as_a_whole_and_moved_only_where_it_is_clear_which_is_meant() {
    let hold = HoldFor::Until(Box::new(selector("$.end")), Zone::utc());
    let policy = SlotPolicy { hold, ..policy(&["$.room"]) };
    let in_room =
        |room: u8, end: u8| held(&policy, &format!(r#"{{"room":{room},"end":"1970-01-01T00:0{end}"}}"#), 9);
    let two = [in_room(1, 1), in_room(2, 1)];
    let all = |change| match change {
        Change::Takes(places) => places,
        other => panic!("{other:?}"),
    };
    let slots = |places: &[Wanted]| places.iter().map(|place| place.slot).collect::<Vec<_>>();
    assert_eq!(plan(&policy, r#"{"note":1}"#, &two, Asks::Nothing), Change::Nothing);
    assert_eq!(plan(&policy, r#"{"room":3,"end":"1970-01-01T00:01"}"#, &two, Asks::Nothing), Change::Unclear);
    // A cancellation, and a whole booking that is put again, which names one of its rooms.
    for (body, asks) in [("{}", Asks::Release), (r#"{"room":2,"end":"1970-01-01T00:01"}"#, Asks::Nothing)] {
        let places = all(plan(&policy, body, &two, asks));
        assert_eq!(slots(&places), [two[0].slot, two[1].slot]);
        assert!(places.iter().all(|place| place.looks && place.instead_of.is_some()), "{body}");
    }
    let longer = all(plan(&policy, r#"{"end":"1970-01-01T00:02"}"#, &two, Asks::Nothing));
    assert!(longer.iter().all(|place| !place.looks && place.keep == Keep::Until(Millis(120_000))));
    let differ = [in_room(1, 1), in_room(2, 2)];
    assert_eq!(plan(&policy, r#"{"end":"1970-01-01T00:02"}"#, &differ, Asks::Nothing), Change::Unclear);
    // It comes back with all that it had, whichever of them it names.
    let paused = two.clone().map(|known| Known { hold: known.hold.released(NOW), ..known });
    for body in ["{}", r#"{"room":2}"#] {
        let back = all(plan(&policy, body, &paused, Asks::Resume));
        assert_eq!(slots(&back), [two[0].slot, two[1].slot], "{body}");
        assert!(back.iter().all(|place| !place.looks && !place.asleep && place.was_released), "{body}");
    }
    // Of two in one slot one is looked at: the one that is there.
    let twice = [
        paused[0].clone(),
        Known { hold: Hold { token: Token(8), ..two[0].hold.clone() }, ..two[0].clone() },
    ];
    let looks = takes(plan(&policy, "{}", &twice, Asks::Release));
    assert_eq!((looks.looks, looks.instead_of), (true, Some(twice[1].key())));
}

#[test]
fn conditions_say_what_a_change_asks() {
    let when = |text: &str, in_answer, values: &[&str]| When {
        selector: selector(text),
        in_answer,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let release = |when: Vec<When>| ReleasePolicy { slot: "slot".into(), id: selector("path:id"), when };
    let asks = |release: &ReleasePolicy, body: &str| looking(body, |source| release.in_request(source));
    let by_status = release(vec![when("$.status", false, &["CANCELLED", "3"])]);
    assert_eq!(asks(&by_status, r#"{"status":"CANCELLED "}"#), Asks::Release);
    assert_eq!(asks(&by_status, r#"{"status":3}"#), Asks::Release);
    assert_eq!(asks(&by_status, r#"{"status":"BOOKED"}"#), Asks::Resume);
    assert_eq!(asks(&by_status, r#"{"note":1}"#), Asks::Nothing);
    assert_eq!(asks(&release(Vec::new()), "{}"), Asks::Release);
    let by_answer = release(vec![when("$.status", true, &["CANCELLED"])]);
    assert_eq!(asks(&by_answer, r#"{"status":"BOOKED"}"#), Asks::Release, "open until the answer");
    assert_eq!(looking(r#"{"status":"BOOKED"}"#, |source| by_answer.in_answer(source)), Asks::Resume);
    let both = release(vec![when("$.a", false, &["1"]), when("$.b", false, &["1"])]);
    assert_eq!(asks(&both, r#"{"a":1,"b":2}"#), Asks::Resume);
    assert_eq!(asks(&both, r#"{"a":1}"#), Asks::Nothing);
    let half_open = release(vec![when("$.a", false, &["1"]), when("$.status", true, &["CANCELLED"])]);
    assert_eq!(
        asks(&half_open, r#"{"a":2}"#),
        Asks::Resume,
        "whatever the answer says, it is not given back"
    );
}

#[test]
fn a_refusal_says_since_when_and_until_when_and_names_only_ones_own() {
    let policy = SlotPolicy { capacity: 2, ..policy(&["$.slot"]) };
    let ask = wanted(&policy, r#"{"slot":5}"#);
    let hold = |token: u128, since: u64, witness, id: &str| {
        let wanted = Wanted {
            witness,
            booking: Some(Booking::new(digest().booking_id("slot", id), id)),
            ..ask.clone()
        };
        let hold = Hold::reserved(&wanted, Token(token), RecordId([1; 32]), "r".into(), Millis(since));
        hold.settled(End::Held, None, Millis(since))
    };
    let (first, second) = (hold(1, 100, BOB, "1"), hold(2, 200, ANN, "2"));
    assert_eq!(refusal([&first], &ask, Token(3), NOW), None, "one place is left");
    let taken = refusal([&first, &second], &ask, Token(3), NOW).expect("no place is left");
    assert_eq!((taken.since, taken.until, taken.state), (Millis(200), Some(Millis(60_100)), HoldState::Held));
    assert_eq!(taken.id.as_deref(), Some("2"));
    let stranger = Wanted { witness: ScopeId([3; 16]), ..ask.clone() };
    assert_eq!(refusal([&first, &second], &stranger, Token(3), NOW).and_then(|taken| taken.id), None);
    assert_eq!(
        refusal([&first, &second], &ask, Token(3), Millis(60_100)),
        None,
        "an instant belongs to what comes after"
    );
    assert_eq!(refusal([&first, &second], &ask, Token(2), NOW), None, "its own place is no obstacle");
    let asleep = Wanted { asleep: true, ..ask };
    assert_eq!(refusal([&first, &second], &asleep, Token(3), NOW), None);
}

#[test]
fn names_that_are_long_are_cut_and_never_in_the_middle_of_a_letter() {
    let id = "é".repeat(100);
    let booking = Booking::new(digest().booking_id("slot", &id), &id);
    assert_eq!(booking.id.len(), Booking::ID_BYTES_MAX);
    assert_eq!("00".repeat(16).parse::<SlotId>(), Ok(SlotId([0; 16])));
    for wrong in ["", "0", "zz", &"é".repeat(16), &"0".repeat(33)] {
        assert!(wrong.parse::<SlotId>().is_err(), "{wrong}");
    }
}

fn probe(get: &str, by: &[Selector]) -> Result<Probe, String> {
    let status = When { selector: selector("$.status"), in_answer: true, values: vec!["cancelled".into()] };
    Ok(Probe {
        get: Template::parse_with(get, |hole| Hole::parse(hole, by))?,
        found: Sought(JsonPath::parse("$")?),
        gone: vec![status],
        attempts: 3,
        apart: Duration::from_millis(500),
    })
}

#[test]
fn a_question_is_made_of_what_is_kept_of_the_hold_and_of_nothing_else() {
    let policy = policy(&["$.doctor", "$.slot"]);
    let target =
        |get: &str, hold: &Hold| probe(get, &policy.by).expect(get).target(&policy, &digest(), hold).ok();
    let hold = |body: &str, id: &str| {
        let booking = Booking::new(digest().booking_id("slot", id), id);
        Hold { booking: Some(booking), ..held(&policy, body, 1).hold }
    };
    let rao = hold(r#"{"doctor":" Dr. Rao","slot":5.0}"#, "a/7?");
    assert_eq!(target("/b?id={id}", &rao).as_deref(), Some("/b?id=a%2F7%3F"));
    assert_eq!(target("/b?d={$.doctor}&s={ $.slot }", &rao).as_deref(), Some("/b?d=Dr.%20Rao&s=5"));
    assert_eq!(target("/b/{id}", &rao), None, "a separator cannot stand in a path");
    let bare = Hold { booking: None, ..rao.clone() };
    assert_eq!(target("/b/{id}", &bare), None, "nobody has named it");
    assert_eq!(
        target("/b/{id}", &hold(r#"{"doctor":"R","slot":5}"#, &"7".repeat(129))),
        None,
        "it is kept in part"
    );
    let divided = hold(r#"{"doctor":"A | B","slot":5}"#, "7");
    let moved = Hold { label: "…".into(), ..rao.clone() };
    let secret = Hold { label: "".into(), ..rao.clone() };
    let long = hold(&format!(r#"{{"doctor":"{}","slot":5}}"#, "R".repeat(300)), "7");
    let list = hold(r#"{"doctor":["a","b"],"slot":5}"#, "7");
    for (what, hold) in
        [("divided", divided), ("moved", moved), ("not kept", secret), ("cut", long), ("a list", list)]
    {
        assert_eq!(target("/b?d={$.doctor}", &hold), None, "{what}");
    }
    let respelled = [selector("lower:$.doctor"), selector("trim:$.slot")];
    for wrong in ["/b?d={$.patient}", "/b?d={lower:$.doctor}", "/b?d={path:id}", "/b?d={}"] {
        assert!(probe(wrong, &respelled).is_err(), "{wrong}");
    }
    assert!(probe("/b?s={trim:$.slot}", &respelled).is_ok());
}

#[test]
fn a_booking_that_is_shown_as_cancelled_is_gone() {
    let mut probe = probe("/b/{id}", &[]).expect("a question");
    for (found, gone) in [
        (r#"{"status":"cancelled"}"#, true),
        (r#"{"status":" cancelled "}"#, true),
        (r#"{"status":"booked"}"#, false),
        (r#"{"state":"cancelled"}"#, false),
        (r#"{"status":"cancelled","status":"booked"}"#, false),
        (r#""cancelled""#, false),
        ("", false),
    ] {
        assert_eq!(probe.is_gone(found.as_bytes()), gone, "{found}");
    }
    probe.gone.clear();
    assert!(!probe.is_gone(b"{}"), "without a condition what is there is there");
}

#[test]
fn only_what_is_settled_and_not_quite_new_is_asked_about_and_only_while_it_is_the_same_is_it_given_back() {
    let hold = held(&policy(&["$.slot"]), r#"{"slot":5}"#, 1).hold;
    let quiet = Duration::from_millis(10);
    let may =
        |hold: &Hold, after: u64| hold.may_be_asked_about(NOW.after(Duration::from_millis(after)), quiet);
    assert!(may(&hold, 10) && !may(&hold, 9), "a success is given its time to be seen");
    assert!(!may(&hold, 60_000), "it is over");
    let reserved = Hold { state: HoldState::Reserved, ..hold.clone() };
    for not_held in [reserved, reserved_unsettled(&hold), hold.released(NOW)] {
        assert!(!may(&not_held, 10) && !not_held.is_still(&hold, NOW), "{:?}", not_held.state);
    }
    assert!(hold.is_still(&hold, NOW) && !hold.is_still(&hold, hold.until));
    let booking = Some(Booking::new(BookingId([9; 16]), "9"));
    for other in [
        Hold { token: Token(2), ..hold.clone() },
        Hold { since: Millis(1), ..hold.clone() },
        Hold { booking, ..hold.clone() },
    ] {
        assert!(!other.is_still(&hold, NOW) && !hold.is_still(&other, NOW));
    }
}

fn reserved_unsettled(hold: &Hold) -> Hold {
    Hold { state: HoldState::Reserved, ..hold.clone() }.unsettled(NOW)
}
