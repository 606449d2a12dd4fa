//! Final blocks, in order and at least once: applied, told to the outside, and kept as snapshots.

use std::sync::Arc;

use bytes::Bytes;
use commonware_actor::Feedback;
use commonware_codec::{Encode as _, RangeCfg};
use commonware_consensus::marshal::Update;
use commonware_consensus::types::{Epocher as _, FixedEpocher, Height};
use commonware_consensus::{Epochable as _, Reporter, Viewable as _};
use commonware_cryptography::{Digested, Digestible as _};
use commonware_runtime::{Clock, Metrics, Spawner, Storage};
use commonware_storage::metadata::{self, Metadata};
use commonware_utils::acknowledgement::{Acknowledgement as _, Exact};
use commonware_utils::sequence::U64;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::app::millis;
use crate::block::Wire;
use crate::engine::{Fatal, Marshal};
use crate::epochs::Enter;
use crate::machine::{Chained as _, Digest, Key, Machine};
use crate::shared::{Final, Head, Settled, Shared};

/// The one key in the snapshot's file.
const NEWEST: u64 = 0;

/// A final block and what tells marshal that it is dealt with.
type Delivered<B> = (Digested<Wire<B>>, Exact);

/// Marshal's end of the way to the finaliser. It never waits: marshal bounds what is under way.
pub(crate) struct Delivery<B: crate::machine::Chained>(mpsc::UnboundedSender<Delivered<B>>);

impl<B: crate::machine::Chained> Clone for Delivery<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: crate::machine::Chained> Reporter for Delivery<B> {
    type Activity = Update<Wire<B>, Exact>;

    fn report(&mut self, update: Self::Activity) -> Feedback {
        match update {
            Update::Block(block, done) => match self.0.send((block, done)) {
                Ok(()) => Feedback::Ok,
                Err(_) => Feedback::Closed,
            },
            // A tip is known before its block is on disk: nothing may follow from it.
            Update::Tip(..) => Feedback::Ok,
        }
    }
}

/// Applies final blocks.
pub(crate) struct Finaliser<E: Storage + Clock + Metrics, M: Machine> {
    context: E,
    shared: Arc<Shared<M>>,
    marshal: Marshal<M>,
    epocher: FixedEpocher,
    deliveries: mpsc::UnboundedReceiver<Delivered<M::Block>>,
    snapshots: Option<Metadata<E, U64, Bytes>>,
    snapshot_every: u64,
    enter: mpsc::UnboundedSender<Enter>,
}

/// A way for final blocks.
pub(crate) fn delivery<B: crate::machine::Chained>()
-> (Delivery<B>, mpsc::UnboundedReceiver<Delivered<B>>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Delivery(sender), receiver)
}

impl<E: Storage + Clock + Metrics + Spawner, M: Machine> Finaliser<E, M> {
    /// Opens the snapshots.
    #[allow(clippy::too_many_arguments)]
    pub(crate) async fn open(
        context: E,
        shared: Arc<Shared<M>>,
        marshal: Marshal<M>,
        epocher: FixedEpocher,
        deliveries: mpsc::UnboundedReceiver<Delivered<M::Block>>,
        enter: mpsc::UnboundedSender<Enter>,
        (prefix, snapshot_every, snapshot_bytes): (&str, u64, usize),
    ) -> Result<Self, Fatal> {
        let snapshots = Metadata::init(
            context.child("snapshots"),
            metadata::Config {
                partition: format!("{prefix}-snapshots"),
                codec_config: RangeCfg::from(0..=snapshot_bytes),
            },
        )
        .await
        .map_err(|error| Fatal::Storage(error.to_string()))?;
        Ok(Self {
            context,
            shared,
            marshal,
            epocher,
            deliveries,
            snapshots: Some(snapshots),
            snapshot_every,
            enter,
        })
    }

    /// Brings the state to where marshal stands, starts the epoch, and applies what becomes final.
    pub(crate) async fn run(mut self, processed: Option<u64>) -> Result<(), Fatal> {
        self.recover(processed.unwrap_or(0)).await?;
        self.enter_epoch().await?;
        while let Some((block, done)) = self.deliveries.recv().await {
            let height = block.inner().block().height();
            // At least once is once: the height is the key.
            if height > self.shared.settled().block.height() {
                self.apply(block.inner().block().clone(), block.digest().0, true)
                    .await?;
                if self.last_of_epoch(height) {
                    self.enter_epoch().await?;
                }
                if self.snapshot_every > 0 && height.is_multiple_of(self.snapshot_every) {
                    self.snapshot().await?;
                }
            }
            done.acknowledge();
        }
        Ok(())
    }

    /// The snapshot, and the blocks after it again. A process may have been killed anywhere: the snapshot
    /// is written as a whole or not at all, and blocks are on disk before they come here.
    async fn recover(&mut self, processed: u64) -> Result<(), Fatal> {
        if let Some(bytes) = self
            .snapshots
            .as_ref()
            .and_then(|snapshots| snapshots.get(&U64::new(NEWEST)))
            .cloned()
        {
            match self.read_snapshot(&bytes) {
                Some(settled) => self.publish(settled, false).await,
                None => warn!(
                    "the snapshot cannot be read; the state is built again from the first block"
                ),
            }
        }
        let from = self.shared.settled().block.height().saturating_add(1);
        for height in from..=processed {
            let block = self
                .marshal
                .get_block(Height::new(height))
                .await
                .ok_or(Fatal::Missing(height))?;
            self.apply(block.inner().block().clone(), block.digest().0, false)
                .await?;
        }
        let settled = self.shared.settled();
        if settled.block.height() > 0 {
            info!(
                height = settled.block.height(),
                "the ledger's state is there again"
            );
            self.tell_head(&settled).await;
        }
        Ok(())
    }

    fn read_snapshot(&self, bytes: &[u8]) -> Option<Settled<M>> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (block, state) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let block = M::Block::decode(block)?;
        Some(Settled {
            digest: block.digest(),
            state: Arc::new(self.shared.machine.restore(&block, state)?),
            block,
        })
    }

    async fn snapshot(&mut self) -> Result<(), Fatal> {
        let settled = self.shared.settled();
        let block = settled.block.encode();
        let length = u32::try_from(block.len())
            .map_err(|_| Fatal::Storage("a block of more than 4 GB".to_owned()))?;
        let bytes = [
            &length.to_be_bytes()[..],
            &block,
            &self.shared.machine.snapshot(&settled.state),
        ]
        .concat();
        if let Some(snapshots) = self.snapshots.take() {
            self.snapshots = Some(
                snapshots
                    .put_sync(U64::new(NEWEST), Bytes::from(bytes))
                    .await
                    .map_err(|error| Fatal::Storage(error.to_string()))?,
            );
        }
        Ok(())
    }

    /// Applies one block, by the state that was computed when it was judged if there is one.
    async fn apply(&mut self, block: M::Block, digest: Digest, tell: bool) -> Result<(), Fatal> {
        let before = self.shared.settled();
        let height = block.height();
        if height != before.block.height().saturating_add(1) || block.parent() != before.digest {
            return Err(Fatal::Broken {
                height,
                reason: "it does not follow the block below it".to_owned(),
            });
        }
        let state = match self.shared.state(height, &digest) {
            Some(state) => state,
            None => Arc::new(
                self.shared
                    .machine
                    .execute(&before.state, &before.block, &block)
                    .map_err(|reason| Fatal::Broken { height, reason })?,
            ),
        };
        self.publish(
            Settled {
                block,
                digest,
                state,
            },
            tell,
        )
        .await;
        Ok(())
    }

    async fn publish(&self, settled: Settled<M>, tell: bool) {
        self.shared
            .settle(settled.clone(), millis(self.context.current()));
        if !tell {
            return;
        }
        let certificate = self.tell_head(&settled).await;
        // Nobody listening is nothing to complain about.
        let _ = self.shared.events.send(Arc::new(Final {
            block: settled.block,
            digest: settled.digest,
            certificate,
        }));
    }

    /// Moves the head if the block has a certificate of its own.
    async fn tell_head(&self, settled: &Settled<M>) -> Option<Bytes> {
        let height = settled.block.height();
        let found = self.marshal.get_finalization(Height::new(height)).await?;
        let certificate = found.encode();
        self.shared.head.send_replace(Head {
            height,
            digest: settled.digest,
            epoch: found.epoch().get(),
            view: found.view().get(),
            certificate: certificate.clone(),
        });
        Some(certificate)
    }

    fn last_of_epoch(&self, height: u64) -> bool {
        self.epocher
            .containing(Height::new(height))
            .is_some_and(|info| info.last().get() == height)
    }

    /// Starts the epoch of the next block.
    async fn enter_epoch(&self) -> Result<(), Fatal> {
        let next = self.shared.settled().block.height().saturating_add(1);
        let epoch = self
            .epocher
            .containing(Height::new(next))
            .ok_or(Fatal::Missing(next))?
            .epoch();
        let (floor, validators): (Digest, Vec<Key>) = match epoch.previous() {
            None => (
                self.shared.machine.genesis().digest(),
                self.shared.machine.validators(),
            ),
            Some(previous) => {
                let last = self.epocher.last(previous).ok_or(Fatal::Missing(next))?;
                let block = self
                    .marshal
                    .get_block(last)
                    .await
                    .ok_or(Fatal::Missing(last.get()))?;
                let validators =
                    block
                        .inner()
                        .block()
                        .next_validators()
                        .ok_or_else(|| Fatal::Broken {
                            height: last.get(),
                            reason: "the last block of an epoch names no validators".to_owned(),
                        })?;
                (block.digest().0, validators)
            }
        };
        // The receiver ends with the engine.
        let _ = self.enter.send(Enter {
            epoch,
            floor,
            validators,
        });
        Ok(())
    }
}
