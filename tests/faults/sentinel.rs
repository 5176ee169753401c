//! A master with two replicas under Sentinels: claims wait for one replica, so a failover forgets none.

use super::{at_last, stand, under};
use crate::harness::redis::{DURABLE, Watched};

#[test]
fn a_watched_master_is_killed() {
    let redis = Watched::with(2, &DURABLE);
    let url = redis.url();
    under("kill -9 of the master, Sentinels fail over", stand(redis, &url), |stand, _| {
        let redis = &mut stand.redis;
        let master = redis.sentinels[0].master().expect("there is a master");
        let at =
            redis.servers.iter().position(|server| server.address.port() == master).expect("one of ours");
        redis.servers[at].kill();
        at_last("another one leads", || redis.sentinels[0].master().filter(|next| *next != master));
        redis.servers[at].run();
        // On a busy machine the Sentinels may choose once more meanwhile.
        at_last("the others follow whoever leads", || {
            let master = redis.sentinels[0].master()?;
            let leader = redis.servers.iter().find(|server| server.address.port() == master)?;
            leader.leads(2).then_some(())
        });
        at_last("the Sentinels know it", || {
            redis.sentinels.iter().all(|sentinel| sentinel.knows(2)).then_some(())
        });
    });
}
