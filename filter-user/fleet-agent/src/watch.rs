//! Reads the bucket: all that it has, and then every change, in the order in which the server stored them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::Client;
use async_nats::jetstream::consumer::{DeliverPolicy, push::OrderedConfig};
use async_nats::jetstream::{self, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bucket::{OPERATION, stream_of, subject};

/// The records that wait.
const WAITING: usize = 4096;

/// A record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) key: String,
    /// Its value; `None` if it was deleted.
    pub(crate) value: Option<Bytes>,
    /// When the server stored it, in milliseconds since 1970.
    pub(crate) at: u64,
}

/// The bucket as it is read.
pub(crate) struct Watch {
    pub(crate) records: mpsc::Receiver<Record>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Begins to read a bucket.
    pub(crate) async fn start(client: &Client, bucket: &str) -> Result<Self> {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(Duration::from_secs(5));
        let stream = context.get_stream_no_info(stream_of(bucket)).await?;
        let config = OrderedConfig {
            deliver_subject: client.new_inbox(),
            filter_subject: subject(bucket, ">"),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.with_context(|| {
            format!("read the bucket {bucket}; `ringfence-fleet init` makes it, and docs/fleet.md has the permissions")
        })?;
        let mut messages = consumer.messages().await?;
        let (tell, records) = mpsc::channel(WAITING);
        let prefix = subject(bucket, "");
        let task = tokio::spawn(async move {
            // After an error the session notices that its own sign of life does not come back.
            while let Some(Ok(message)) = messages.next().await {
                let Some(record) = record(&message, &prefix) else { continue };
                if tell.send(record).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self { records, task })
    }
}

fn record(message: &Message, prefix: &str) -> Option<Record> {
    let info = message.info().ok()?;
    let at = info.published.unix_timestamp_nanos() / 1_000_000;
    let operation = message.headers.as_ref().and_then(|headers| headers.get(OPERATION));
    Some(Record {
        key: message.subject.as_str().strip_prefix(prefix)?.to_owned(),
        value: operation.is_none().then(|| message.payload.clone()),
        at: u64::try_from(at).unwrap_or(0),
    })
}
