//! SQL of `wechat_notifications` and `wechat_notification_decisions`. There is no statement that changes a row.

use sqlx::MySqlPool;
use time::OffsetDateTime;

use super::model::Decision;
use crate::text::cut;
use crate::wechat::notify::Label;
use crate::wechat::platform::Signed;

/// Keeps what WeChat signed; its row. WeChat's texts are far shorter than their columns; one that is not must not keep a
/// payment from being recorded. The same attempt once more finds the first one's.
pub async fn keep(
    pool: &MySqlPool,
    label: &Label,
    signed: &Signed,
    body: &[u8],
    received_at: OffsetDateTime,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO wechat_notifications (notification_id, event_type, received_at, signature_serial, \
         signature_timestamp, signature_nonce, signature, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)",
    )
    .bind(cut(&label.id, 128))
    .bind(cut(&label.event_type, 64))
    .bind(received_at)
    .bind(cut(&signed.serial, 128))
    .bind(cut(&signed.timestamp, 20))
    .bind(cut(&signed.nonce, 128))
    .bind(cut(&signed.signature, 1400))
    .bind(body)
    .execute(pool)
    .await?;
    Ok(done.last_insert_id())
}

/// Adds what was decided about a notification, once.
pub async fn decide(
    pool: &MySqlPool,
    notification: u64,
    decision: &Decision,
    decided_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO wechat_notification_decisions (notification, decision, reason, decided_at) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE id = id",
    )
    .bind(notification)
    .bind(decision.word)
    .bind(decision.reason.as_deref().map(|reason| cut(reason, 300)))
    .bind(decided_at)
    .execute(pool)
    .await?;
    Ok(())
}
