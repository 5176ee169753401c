//! Scopes that stand for others: who goes on under a renewed cookie.

use super::support::*;
use oncegate::domain::client::ScopeId;
use oncegate::store::{Completion, Held};
use std::time::Duration;

pub async fn an_alias_stands_for_its_scope_while_it_lasts(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let (old, new, newest) = (ScopeId([1; 16]), ScopeId([2; 16]), ScopeId([3; 16]));
    assert_eq!(store.scope_of(new), new);
    granted(&store, claim(&store, 1, 1)).await;
    let done = Completion { alias: Some((new, MINUTE)), ..completion(1, 1, answer(201, "")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    assert_eq!((store.scope_of(new), store.scope_of(old)), (old, old));
    assert_eq!(store.alias(newest, new, SHORT).await, Ok(()));
    let before = store.now();
    assert_eq!(store.scope_of(newest), old, "an alias of an alias is one of the scope itself");
    while store.scope_of(newest) != newest {
        assert!(store.now().since(before) < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(store.scope_of(new), old);
}

pub async fn an_alias_that_is_asked_for_again_lasts_longer(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let (old, new) = (ScopeId([1; 16]), ScopeId([2; 16]));
    granted(&store, claim(&store, 1, 1)).await;
    assert_eq!(store.alias(new, old, SHORT).await, Ok(()));
    assert_eq!(store.alias(new, old, MINUTE).await, Ok(()));
    let before = store.now();
    while store.now().since(before) < SHORT * 2 {
        assert_eq!(store.scope_of(new), old);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub async fn a_scope_with_records_of_its_own_or_of_another_comes_to_stand_for_no_third(
    backend: &impl Backend,
) {
    let store = backend.open(Limits::default());
    let [old, own, new] = [1, 2, 3].map(|n| ScopeId([n; 16]));
    granted(&store, claim(&store, 1, 1)).await;
    let mut other = claim(&store, 2, 2);
    other.claim.scope = own;
    granted(&store, other).await;
    assert_eq!(store.alias(own, old, MINUTE).await, Ok(()));
    assert_eq!(store.scope_of(own), own);
    let done = Completion { alias: Some((own, MINUTE)), ..completion(1, 1, answer(201, "")) };
    assert_eq!(complete(&store, done).await, Held::Yes);
    assert_eq!(store.scope_of(own), own);
    assert_eq!(store.alias(new, old, MINUTE).await, Ok(()));
    assert_eq!(store.alias(new, own, MINUTE).await, Ok(()));
    assert_eq!(store.scope_of(new), old);
}

pub async fn an_alias_to_a_scope_without_records_is_not_kept(backend: &impl Backend) {
    let store = backend.open(Limits::default());
    let (old, new) = (ScopeId([1; 16]), ScopeId([2; 16]));
    assert_eq!(store.alias(new, old, MINUTE).await, Ok(()));
    assert_eq!(store.scope_of(new), new);
    granted(&store, claim(&store, 1, 1)).await;
    assert!(store.may_have_live(old));
}
