//! Which permission a token needs for a call, by the name that Cloudflare's dashboard gives it.
//!
//! Named by path, because an answer that refuses a token does not say what it lacks.

/// First parts of paths below an account, and the permission of what lies there.
const ACCOUNT: [(&str, &str); 15] = [
    ("ai-gateway", "`AI Gateway: Edit`"),
    ("cfd_tunnel", "`Cloudflare Tunnel: Edit`"),
    ("d1", "`D1: Edit`"),
    ("dispatch", "`Workers Scripts: Edit`"),
    ("event_notifications", "`Workers R2 Storage: Edit`"),
    ("hyperdrive", "`Hyperdrive: Edit`"),
    ("logs", "`Logs: Edit`"),
    ("queues", "`Queues: Edit`"),
    ("r2", "`Workers R2 Storage: Edit`"),
    ("secrets_store", "`Secrets Store: Edit`"),
    ("storage", "`Workers KV Storage: Edit`"),
    ("tokens", "any permission for the account"),
    ("vectorize", "`Vectorize: Edit`"),
    ("workers", "`Workers Scripts: Edit`"),
    ("workflows", "`Workers Scripts: Edit`"),
];

/// First parts of paths below a zone.
const ZONE: [(&str, &str); 3] = [
    ("dns_records", "`DNS: Edit` for the zone"),
    ("settings", "`Zone Settings: Edit` for the zone"),
    ("workers", "`Workers Routes: Edit` for the zone"),
];

/// The permission for a call as messages describe it: `POST /accounts/../d1/database`.
pub(super) fn needed(call: &str) -> &'static str {
    let path = call.split_once(' ').map_or(call, |(_, path)| path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let among = |table: &[(&str, &'static str)], part: &str| {
        let found = table.iter().find(|(name, _)| *name == part);
        found.map(|(_, permission)| *permission)
    };
    let found = match parts.as_slice() {
        ["accounts"] | ["user", ..] => Some("`Account Settings: Read`"),
        ["accounts", _, part, ..] => among(&ACCOUNT, part),
        ["zones", _, part, ..] => among(&ZONE, part).or(Some("`Zone: Edit`")),
        ["zones", ..] => Some("`Zone: Edit`"),
        _ => None,
    };
    found.unwrap_or("the permission for this call")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_name_their_permission() {
        for (call, permission) in [
            ("POST /accounts/../d1/database", "`D1: Edit`"),
            (
                "PUT /accounts/../workers/scripts/a",
                "`Workers Scripts: Edit`",
            ),
            (
                "GET /accounts/../storage/kv/namespaces",
                "`Workers KV Storage: Edit`",
            ),
            ("GET /accounts", "`Account Settings: Read`"),
            ("POST /zones/z/dns_records", "`DNS: Edit` for the zone"),
            (
                "PUT /zones/z/workers/routes/r",
                "`Workers Routes: Edit` for the zone",
            ),
            ("POST /zones", "`Zone: Edit`"),
            ("GET /accounts/../other", "the permission for this call"),
        ] {
            assert_eq!(needed(call), permission, "{call}");
        }
    }

    #[test]
    fn the_tables_can_be_looked_through() {
        assert!(ACCOUNT.is_sorted() && ZONE.is_sorted());
    }
}
