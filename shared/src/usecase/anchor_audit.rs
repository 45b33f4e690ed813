//! Storing the chain heads of the audit log outside the log, where a change of the log cannot alter them.

use std::sync::Arc;

use futures_util::{TryStreamExt, stream};

use crate::{
    audit::{ChainId, Head, Partition, Reading, read},
    domain::Failure,
    port::Clock,
    store::{Anchored, DynamoStore},
};

/// Maximum number of chains that are written in parallel.
const CHAINS_AT_ONCE: usize = 8;

/// Stores chain heads; built once per process.
pub struct Anchorer {
    anchors: Arc<DynamoStore>,
    clock: Arc<dyn Clock>,
}

/// Content of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Number of intact events.
    pub events: u64,
    /// Number of their chains.
    pub chains: usize,
    /// Number of altered events and of invalid lines that begin like an event.
    pub faulty: u64,
}

impl Anchorer {
    /// Creates an anchorer that stores heads in `anchors`.
    pub fn new(anchors: Arc<DynamoStore>, clock: Arc<dyn Clock>) -> Self {
        Self { anchors, clock }
    }

    /// Stores the head of each chain of a batch, with one write per chain. Batches may arrive repeatedly, in any order
    /// and in parallel: the latest head stays.
    ///
    /// # Errors
    /// `Unavailable`: the whole batch must be retried.
    pub async fn anchor<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Result<Outcome, Failure> {
        let Reading { heads, broken, events, faulty } = read(lines);
        let chains = heads.len();
        stream::iter(heads.into_iter().map(Ok))
            .try_for_each_concurrent(CHAINS_AT_ONCE, async |head| self.keep(&head).await)
            .await?;
        stream::iter(broken.into_iter().map(Ok))
            .try_for_each_concurrent(CHAINS_AT_ONCE, async |(partition, chain)| {
                self.mark_broken(&partition, chain).await
            })
            .await?;
        Ok(Outcome { events, chains, faulty })
    }

    async fn keep(&self, head: &Head) -> Result<(), Failure> {
        match self.anchors.anchor(head).await? {
            Anchored::Kept | Anchored::Known => Ok(()),
            Anchored::Forked => {
                tracing::error!(chain = %head.chain, sequence = head.sequence, "audit.forked");
                self.mark_broken(&head.partition(), head.chain).await
            }
        }
    }

    async fn mark_broken(&self, partition: &Partition, chain: ChainId) -> Result<(), Failure> {
        self.anchors.mark_broken(partition, chain, self.clock.now()).await
    }
}
