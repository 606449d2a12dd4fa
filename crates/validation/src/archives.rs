//! A node's files of final blocks and their certificates, by height.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::sync::Arc;

use commonware_codec::Decode as _;
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::simplex::types::Finalization;
use commonware_cryptography::certificate::Verifier as _;
use commonware_cryptography::{Digestible as _, sha256};
use commonware_runtime::buffer::paged::{self, CacheRef};
use commonware_runtime::{Clock, Metrics, Spawner, Storage};
use commonware_storage::archive::{Archive as _, prunable};
use commonware_storage::translator::EightCap;
use commonware_utils::{NZU64, NZUsize};

use crate::block::Wire;
use crate::config::Limits;
use crate::engine::{Fatal, Stored};
use crate::machine::Chained;

/// Changing it makes files of before unreadable.
pub(crate) const PAGE: NonZeroU16 = paged::page_size(4096);
pub(crate) const BUFFER: NonZeroUsize = NZUsize!(256 << 10);
/// Blocks and certificates in a file.
pub(crate) const PER_SECTION: NonZeroU64 = NZU64!(1024);
fn archive<C>(
    prefix: &str,
    name: &str,
    cache: &CacheRef,
    codec: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-key"),
        key_page_cache: cache.clone(),
        value_partition: format!("{prefix}-{name}-value"),
        compression: None,
        codec_config: codec,
        items_per_section: PER_SECTION,
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    }
}

/// Certificates by height.
pub(crate) type Finalizations<E> =
    prunable::Archive<EightCap, E, sha256::Digest, Finalization<Scheme, sha256::Digest>>;
/// Final blocks by height.
pub(crate) type Blocks<E, B> = prunable::Archive<EightCap, E, sha256::Digest, Arc<Wire<B>>>;

/// Opens the files of a node.
pub(crate) async fn open<E, B>(
    context: &E,
    prefix: &str,
    cache: &CacheRef,
    limits: &Limits,
) -> Result<(Finalizations<E>, Blocks<E, B>), Fatal>
where
    E: Clock + Spawner + Storage + Metrics,
    B: Chained,
{
    let finalizations = prunable::Archive::init(
        context.child("finalizations"),
        archive(
            prefix,
            "finalizations",
            cache,
            Scheme::certificate_codec_config_unbounded(),
        ),
    )
    .await
    .map_err(storage)?;
    let blocks = prunable::Archive::init(
        context.child("finalized"),
        archive(prefix, "blocks", cache, limits.block_bytes),
    )
    .await
    .map_err(storage)?;
    Ok((finalizations, blocks))
}

fn storage(error: commonware_storage::archive::Error) -> Fatal {
    Fatal::Storage(error.to_string())
}

/// Puts final blocks, from height 1 on without a gap, into the files of a node that has none yet.
pub(crate) async fn fill<E, B>(
    context: E,
    prefix: &str,
    limits: &Limits,
    stored: impl Iterator<Item = Stored>,
) -> Result<(), Fatal>
where
    E: Clock + Spawner + Storage + Metrics,
    B: Chained,
{
    /// Blocks that are written before the files are made safe.
    const AT_A_TIME: u64 = 4_096;
    let cache = CacheRef::new(PAGE, limits.cache_pages);
    let (mut finalizations, mut blocks) = open::<E, B>(&context, prefix, &cache, limits).await?;
    for Stored { block, certificate } in stored {
        let block = B::decode(&block)
            .ok_or_else(|| Fatal::Storage("what is to be put there is no block".to_owned()))
            .map(|block| Arc::new(Wire::new(block)))?;
        let (height, digest) = (block.block().height(), block.digest());
        blocks = blocks.put(height, digest, &block).await.map_err(storage)?;
        if let Some(certificate) = certificate {
            let codec = Scheme::certificate_codec_config_unbounded();
            let certificate = Finalization::decode_cfg(certificate, &codec)
                .map_err(|error| Fatal::Storage(error.to_string()))?;
            finalizations = finalizations
                .put(height, digest, &certificate)
                .await
                .map_err(storage)?;
        }
        if height.is_multiple_of(AT_A_TIME) {
            blocks = blocks.sync().await.map_err(storage)?;
            finalizations = finalizations.sync().await.map_err(storage)?;
        }
    }
    blocks.sync().await.map_err(storage)?;
    finalizations.sync().await.map_err(storage)?;
    Ok(())
}
