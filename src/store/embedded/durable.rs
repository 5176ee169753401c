//! Waiting for the log: of all who wait on one thread for one commit, one asks the queue and is woken by the writer, and
//! wakes the others. So most of those who wait take no lock that another thread wants at the same time.

use super::StoreError;
use super::log::queue::Queue;
use slab::Slab;
use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

thread_local! {
    /// The groups that were made on this thread: few, because few commits are on their way at a time.
    static GROUPS: RefCell<Vec<Arc<Group>>> = const { RefCell::new(Vec::new()) };
}

/// Those of one thread that wait for one commit.
struct Group {
    /// The queue's address: its name, nothing more.
    queue: usize,
    commit: u64,
    /// `None` when nobody leads it any more.
    followers: Mutex<Option<Slab<Waker>>>,
}

enum Role {
    Lead(Lead),
    Follow(Follow),
}

/// The one who asks. When it has heard, or goes away before that, the others look for themselves.
struct Lead(Arc<Group>);

/// Waits until nobody leads the group.
struct Follow {
    group: Arc<Group>,
    place: Option<usize>,
}

/// Waits until the block `commit` is durable.
pub(super) async fn durable(queue: &Queue, commit: u64) -> Result<(), StoreError> {
    while !queue.is_synced(commit) {
        let _lead = match join(queue, commit) {
            Role::Lead(lead) => lead,
            Role::Follow(follow) => {
                follow.await;
                continue;
            }
        };
        if let Some(signal) = queue.commit(commit)? {
            return signal.wait().await;
        }
        break;
    }
    Ok(())
}

/// A place in this thread's group for a commit, or the lead of a new one.
fn join(queue: &Queue, commit: u64) -> Role {
    let queue = std::ptr::from_ref(queue).addr();
    GROUPS.with_borrow_mut(|groups| {
        let same = |group: &&Arc<Group>| group.commit == commit && group.queue == queue && group.is_led();
        if let Some(group) = groups.iter().find(same) {
            return Role::Follow(Follow { group: Arc::clone(group), place: None });
        }
        groups.retain(|group| group.is_led());
        let group = Arc::new(Group { queue, commit, followers: Mutex::new(Some(Slab::new())) });
        groups.push(Arc::clone(&group));
        Role::Lead(Lead(group))
    })
}

// === impl Group ===

impl Group {
    fn is_led(&self) -> bool {
        self.followers().is_some()
    }

    fn followers(&self) -> MutexGuard<'_, Option<Slab<Waker>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let followers = self.0.followers().take();
        followers.into_iter().flatten().for_each(|(_, task)| task.wake());
    }
}

impl Future for Follow {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Follow { group, place } = self.get_mut();
        let mut followers = group.followers();
        let Some(followers) = followers.as_mut() else { return Poll::Ready(()) };
        match place.and_then(|at| followers.get_mut(at)) {
            Some(task) => task.clone_from(cx.waker()),
            None => *place = Some(followers.insert(cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let Some(at) = self.place else { return };
        let task = self.group.followers().as_mut().and_then(|followers| followers.try_remove(at));
        // Not under the lock: it may be the last of its task.
        drop(task);
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::instant;
    use super::super::log::queue::{Queue, Room};
    use super::*;
    use crate::domain::time::Millis;
    use futures_util::FutureExt;
    use std::time::Duration;

    fn pushed(queue: &Queue) -> u64 {
        queue.start(1, Room { segment: 1, at: 0, end: 1 << 20 });
        queue.push(b"note", &mut Vec::new(), false, Millis(1)).expect("there is room").commit
    }

    fn sync(queue: &Queue) {
        let batch = queue.take_due().expect("a batch");
        queue.synced(batch, Duration::ZERO, instant());
    }

    #[tokio::test]
    async fn all_of_a_thread_hear_of_a_commit() {
        let queue = Queue::new();
        let commit = pushed(&queue);
        let waiting = futures_util::future::join_all((0..5).map(|_| durable(&queue, commit)));
        let mut waiting = std::pin::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        sync(&queue);
        let heard = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("all were woken");
        assert!(heard.iter().all(Result::is_ok));
        GROUPS.with_borrow(|groups| assert!(groups.iter().all(|group| !group.is_led())));
    }

    #[tokio::test]
    async fn whoever_leads_may_leave() {
        let queue = Arc::new(Queue::new());
        let commit = pushed(&queue);
        let mut lead = Box::pin(durable(&queue, commit));
        assert!(lead.as_mut().now_or_never().is_none());
        let local = tokio::task::LocalSet::new();
        let followers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                local.spawn_local(async move { durable(&queue, commit).await })
            })
            .collect();
        local.run_until(tokio::task::yield_now()).await;
        drop(lead);
        local.run_until(tokio::task::yield_now()).await;
        sync(&queue);
        let heard = local.run_until(futures_util::future::join_all(followers));
        let heard = tokio::time::timeout(Duration::from_secs(5), heard).await.expect("all were woken");
        assert!(heard.into_iter().all(|told| told.expect("no panic").is_ok()));
    }

    #[tokio::test]
    async fn a_log_that_fails_tells_everybody() {
        let queue = Queue::new();
        let commit = pushed(&queue);
        let waiting = futures_util::future::join_all((0..3).map(|_| durable(&queue, commit)));
        let mut waiting = std::pin::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        queue.fail("the disk is gone");
        let heard = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("all were woken");
        assert!(heard.iter().all(Result::is_err));
    }

    #[tokio::test]
    async fn commits_of_two_logs_are_two() {
        let (one, two) = (Queue::new(), Queue::new());
        let (first, second) = (pushed(&one), pushed(&two));
        assert_eq!(first, second);
        let (mut waits, mut others) = (Box::pin(durable(&one, first)), Box::pin(durable(&two, second)));
        assert!(waits.as_mut().now_or_never().is_none() && others.as_mut().now_or_never().is_none());
        sync(&one);
        assert!(waits.now_or_never().is_some());
        assert!(others.as_mut().now_or_never().is_none());
        sync(&two);
        assert!(others.now_or_never().is_some());
    }
}
