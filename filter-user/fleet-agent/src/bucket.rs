//! What the administrator of the fleet does with the bucket.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, stream};
use serde::Serialize;

use crate::keys::Keys;

/// How long a record is kept: longer than any ban that is accepted lasts.
const AGE: Duration = Duration::from_hours(8 * 24);

/// What marks a record as deleted.
pub(crate) const OPERATION: &str = "KV-Operation";

/// The stream of a bucket.
pub(crate) fn stream_of(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key.
pub(crate) fn subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// The headers of a deletion.
pub(crate) fn deletion() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(OPERATION, "DEL");
    headers
}

/// Makes the bucket. The configuration is that of a key-value bucket, so that other tools can read it.
pub(crate) async fn make(keys: &Keys, bucket: &str, replicas: usize, bytes: i64) -> Result<()> {
    let context = jetstream::new(keys.connect(false).await?);
    let config = stream::Config {
        name: stream_of(bucket),
        subjects: vec![subject(bucket, ">")],
        max_messages_per_subject: 1,
        max_bytes: bytes,
        max_age: AGE,
        max_message_size: 1024,
        num_replicas: replicas,
        discard: stream::DiscardPolicy::New,
        storage: stream::StorageType::File,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    };
    context.create_stream(config).await.with_context(|| format!("make the bucket {bucket}"))?;
    Ok(())
}

/// Writes a record, or deletes it.
pub(crate) async fn put<T: Serialize>(
    keys: &Keys,
    bucket: &str,
    key: &fleet::Key,
    record: Option<&T>,
) -> Result<()> {
    let context = jetstream::new(keys.connect(false).await?);
    let subject = subject(bucket, &key.to_string());
    let sent = match record {
        Some(record) => context.publish(subject, fleet::write(record).into()).await,
        None => context.publish_with_headers(subject, deletion(), "".into()).await,
    };
    sent?.await.with_context(|| format!("write {key} into the bucket {bucket}"))?;
    Ok(())
}

/// Deletes all bans of a host.
pub(crate) async fn purge(keys: &Keys, bucket: &str, host: &fleet::Host) -> Result<()> {
    let context = jetstream::new(keys.connect(false).await?);
    let stream = context.get_stream(stream_of(bucket)).await.context("find the bucket")?;
    let subject = subject(bucket, &format!("bans.{host}.>"));
    stream.purge().filter(subject).await.with_context(|| format!("delete the bans of {host}"))?;
    Ok(())
}
