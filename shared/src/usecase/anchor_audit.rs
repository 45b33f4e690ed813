//! Keeping the heads of the audit log's chains where the log cannot be rewritten.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    audit::{ChainId, Head, Partition, Reading, read},
    domain::Failure,
    port::Clock,
    store::{Anchored, DynamoStore},
};

/// Chains that are written at the same time.
const CHAINS_AT_ONCE: usize = 8;

/// What keeps the heads; built once per process.
pub struct Anchorer {
    anchors: Arc<DynamoStore>,
    clock: Arc<dyn Clock>,
}

/// What a batch held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that were as they were written.
    pub events: u64,
    /// Their chains.
    pub chains: usize,
    /// Events that were not, and lines that only begin like one.
    pub faulty: u64,
}

impl Anchorer {
    /// An anchorer over these ports.
    pub fn new(anchors: Arc<DynamoStore>, clock: Arc<dyn Clock>) -> Self {
        Self { anchors, clock }
    }

    /// One write for each chain of a batch. Batches may come twice, in any order and side by side: the
    /// latest head stays.
    ///
    /// # Errors
    /// `Unavailable`: the batch must be handed in again, all of it.
    pub async fn anchor<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Result<Outcome, Failure> {
        let Reading { heads, broken, events, faulty } = read(lines);
        let chains = heads.len();
        stream::iter(heads)
            .map(|head| async move { self.keep(&head).await })
            .buffer_unordered(CHAINS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        stream::iter(broken)
            .map(|(partition, chain)| async move { self.mark_broken(&partition, chain).await })
            .buffer_unordered(CHAINS_AT_ONCE)
            .try_collect::<()>()
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
