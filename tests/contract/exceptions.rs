//! Where the description is known to be wrong or to lack something, and why.

/// A difference that is a mistake or a gap of the description.
pub(super) struct Exception {
    /// The operation; a `*` at the end stands for anything.
    pub(super) operation: &'static str,
    /// How the place of the difference begins.
    pub(super) place: &'static str,
    /// Why the description is wrong there.
    #[expect(dead_code, reason = "said to whoever reads the list")]
    pub(super) reason: &'static str,
}

const fn exception(
    operation: &'static str,
    place: &'static str,
    reason: &'static str,
) -> Exception {
    Exception {
        operation,
        place,
        reason,
    }
}

/// All of them. A test fails for one that is not needed any more.
pub(super) const EXCEPTIONS: &[Exception] = &[
    exception(
        "POST /accounts/{account_id}/workers/assets/upload",
        "answer 20",
        "201 after the last file and 202 before; only 200 is described",
    ),
    exception(
        "GET /accounts/{account_id}/storage/kv/namespaces/{namespace_id}/values/{key_name}",
        "answer 200",
        "the value as it is, without an envelope",
    ),
    exception(
        "PUT /accounts/{account_id}/storage/kv/namespaces/{namespace_id}/values/{key_name}",
        "request body",
        "only multipart/form-data is described; the value as it is will do",
    ),
    exception(
        "GET /accounts/{account_id}/r2/buckets/{bucket_name}/objects/{object_key}",
        "answer 200",
        "the object as it is, without an envelope",
    ),
    exception(
        "PUT /accounts/{account_id}/r2/buckets/{bucket_name}/objects/{object_key}",
        "request body",
        "no body is described, but the object must come from somewhere",
    ),
    exception(
        "GET /accounts/{account_id}/workers/scripts/{script_name}",
        "answer 200",
        "the modules as multipart/form-data, without an envelope",
    ),
    exception(
        "GET /accounts/{account_id}/workers/scripts/{script_name}/content/v2",
        "answer 200",
        "the modules as multipart/form-data, without an envelope",
    ),
    exception(
        "GET /zones/{zone_id}/dns_records/export",
        "answer 200",
        "the zone file as it is, without an envelope",
    ),
    exception(
        "POST /graphql",
        "answer",
        "GraphQL's own `{data, errors}`, without an envelope",
    ),
    exception(
        "GET /accounts/{account_id}/queues",
        "request query",
        "no parameter is described; Cloudflare's own clients send `page` and `name` and get pages",
    ),
    exception(
        "POST /accounts/{account_id}/queues/{queue_id}/messages",
        "request body /body",
        "only text is described; a message of the content type json holds any value",
    ),
    exception(
        "POST /accounts/local/ai-gateway/gateways*",
        "request path",
        "AI gateways are not part of the cut",
    ),
    exception(
        "GET /accounts/local/ai-gateway/gateways*",
        "request path",
        "AI gateways are not part of the cut",
    ),
    exception(
        "PUT /accounts/local/ai-gateway/gateways*",
        "request path",
        "AI gateways are not part of the cut",
    ),
    exception(
        "DELETE /accounts/local/ai-gateway/gateways*",
        "request path",
        "AI gateways are not part of the cut",
    ),
    exception(
        "POST /accounts/local/cfd_tunnel*",
        "request path",
        "tunnels are not part of the cut",
    ),
    exception(
        "GET /accounts/local/cfd_tunnel*",
        "request path",
        "tunnels are not part of the cut",
    ),
    exception(
        "PATCH /accounts/local/cfd_tunnel*",
        "request path",
        "tunnels are not part of the cut",
    ),
    exception(
        "PUT /accounts/local/cfd_tunnel*",
        "request path",
        "tunnels are not part of the cut",
    ),
    exception(
        "DELETE /accounts/local/cfd_tunnel*",
        "request path",
        "tunnels are not part of the cut",
    ),
];
