//! What the provider sends for the kinds around Workers: zones, stores, indexes and their like.

use super::provider::{DESTROY, assert_sent, refresh, refused, run};

/// Scripts that use every prop of each kind.
pub(super) const SCRIPTS: &[(&str, &str)] = &[
    ("cloudflare::AiGateway", GATEWAYS),
    ("cloudflare::CustomDomain", ZONES),
    ("cloudflare::DnsRecords", ZONES),
    ("cloudflare::Hyperdrive", STORES),
    ("cloudflare::R2Object", R2_OBJECTS),
    ("cloudflare::Route", ZONES),
    ("cloudflare::Secret", STORES),
    ("cloudflare::SecretsStore", STORES),
    ("cloudflare::Tunnel", GATEWAYS),
    ("cloudflare::VectorizeIndex", STORES),
    ("cloudflare::Zone", ZONES),
];

const ZONES: &str = r#"
let worker = Worker("api", #{ script: "export default {}", url: false });
let zone = Zone("example.com", #{
    type: "full",
    paused: true,
    settings: #{
        ssl: "strict", alwaysUseHttps: "on", automaticHttpsRewrites: "on", minTlsVersion: "1.2", tls13: "zrt",
        http2: "on", http3: "on", zeroRtt: "on", ipv6: "on", websockets: "on", brotli: "on", earlyHints: "on",
        developmentMode: "off", cacheLevel: "basic", securityLevel: "low", browserCheck: "off",
        emailObfuscation: "off", hotlinkProtection: "on", opportunisticEncryption: "off", alwaysOnline: "off",
        rocketLoader: "off", browserCacheTtl: 60,
    },
});
let other = Zone("other", #{ name: "example.org" });
CustomDomain("domain", #{ name: "api.example.com", worker: worker, zone: zone });
CustomDomain("www.example.org", #{ worker: worker, zoneId: other.ref("id"), naming: "app" });
Route("route", #{ pattern: "example.com/api/*", script: worker, zone: zone, naming: "app" });
Route("none", #{ pattern: "example.org/*", zoneId: other.ref("id") });
DnsRecords("records", #{ zone: zone, records: [
    #{ type: "A", name: "www", content: "192.0.2.1", proxied: true, comment: "first", tags: ["a:b"] },
    #{ type: "MX", name: "@", content: "mail.example.com", priority: 10, ttl: 300 },
    #{ type: "CAA", name: "@", data: #{ flags: 0, tag: "issue", value: "ca.example" } },
] });
DnsRecords("more", #{ zoneId: other.ref("id"), records: [#{ type: "TXT", name: "@", content: "text" }] });
"#;
const ZONES_CHANGED: &str = r#"
let worker = Worker("api", #{ script: "export default {}", url: false });
let zone = Zone("example.com", #{ type: "partial", settings: #{ ssl: "full" } });
let other = Zone("other", #{ name: "example.org" });
CustomDomain("domain", #{ name: "v1.example.com", worker: worker, zone: zone });
CustomDomain("www.example.org", #{ worker: "api-dev", zoneId: other.ref("id") });
Route("route", #{ pattern: "example.com/v2/*", script: worker, zone: zone });
Route("none", #{ pattern: "example.org/*", zoneId: other.ref("id"), script: worker });
DnsRecords("records", #{ zone: zone, records: [
    #{ type: "A", name: "www", content: "192.0.2.2" },
    #{ type: "AAAA", name: "www", content: "2001:db8::1" },
] });
Zone("theirs.example", #{ adopt: true });
"#;
const ZONES_REFUSED: &str = r#"
Zone("theirs.example");
"#;

#[test]
fn zones() {
    let theirs = (
        "POST",
        "/zones",
        r#"{"name":"theirs.example","account":{"id":"local"}}"#,
    );
    assert_sent(
        &[theirs],
        &[
            refused(ZONES_REFUSED),
            run(ZONES),
            run(ZONES),
            run(ZONES_CHANGED),
            refresh(ZONES_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE workers/domains/{domain_id}",
            "DELETE workers/scripts/{script_name}",
            "DELETE /zones/{zone_id}",
            "DELETE /zones/{zone_id}/workers/routes/{route_id}",
            "GET workers/domains",
            "GET workers/domains/{domain_id}",
            "GET workers/scripts/{script_name}/deployments",
            "GET workers/scripts/{script_name}/settings",
            "GET workers/scripts/{script_name}/subdomain",
            "GET workers/services/{service_name}",
            "GET /zones",
            "GET /zones/{zone_id}",
            "GET /zones/{zone_id}/dns_records",
            "GET /zones/{zone_id}/workers/routes/{route_id}",
            "PATCH /zones/{zone_id}",
            "PATCH /zones/{zone_id}/settings/{setting_id}",
            "POST workers/scripts/{script_name}/subdomain",
            "POST /zones",
            "POST /zones/{zone_id}/dns_records/batch",
            "POST /zones/{zone_id}/workers/routes",
            "PUT workers/domains",
            "PUT workers/scripts/{script_name}",
            "PUT workers/scripts/{script_name}/schedules",
            "PUT /zones/{zone_id}/workers/routes/{route_id}",
        ],
    );
}

const R2_OBJECTS: &str = r#"
let files = Bucket("files");
R2Object("robots.txt", #{ bucket: files, content: "User-agent: *" });
R2Object("page", #{
    bucket: files, key: "site/my page.html", file: "migrations/0001_first.sql", contentType: "text/html",
    cacheControl: "no-store", contentDisposition: "inline", contentEncoding: "identity", contentLanguage: "en",
    storageClass: "InfrequentAccess",
});
let europe = Bucket("europe", #{ name: "europe", jurisdiction: "eu" });
wait(europe);
R2Object("key", #{ bucket: "europe", jurisdiction: "eu", content: secret("hidden") });
"#;
const R2_OBJECTS_CHANGED: &str = r#"
let files = Bucket("files", #{ empty: true });
R2Object("robots.txt", #{ bucket: files, content: "User-agent: none" });
R2Object("page", #{ bucket: files, key: "site/other.html", content: "<p>" });
Bucket("europe", #{ name: "europe", jurisdiction: "eu", empty: true });
R2Object("theirs", #{ bucket: "theirs", key: "key", content: "ours", adopt: true });
"#;
const R2_OBJECTS_REFUSED: &str = r#"
R2Object("theirs", #{ bucket: "theirs", key: "key", content: "ours" });
"#;

#[test]
fn objects_of_buckets() {
    let theirs = ("POST", "r2/buckets", r#"{"name":"theirs"}"#);
    let object = ("PUT", "r2/buckets/theirs/objects/key", "content");
    assert_sent(
        &[theirs, object],
        &[
            refused(R2_OBJECTS_REFUSED),
            run(R2_OBJECTS),
            run(R2_OBJECTS),
            run(R2_OBJECTS_CHANGED),
            refresh(R2_OBJECTS_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE r2/buckets/{bucket_name}",
            "DELETE r2/buckets/{bucket_name}/objects/{object_key}",
            "DELETE r2/buckets/{bucket_name}/objects",
            "GET r2/buckets/{bucket_name}",
            "GET r2/buckets/{bucket_name}/objects",
            "PATCH r2/buckets/{bucket_name}",
            "POST r2/buckets",
            "PUT r2/buckets/{bucket_name}/objects/{object_key}",
        ],
    );
}

const STORES: &str = r#"
let store = SecretsStore("store", #{ naming: "stage" });
let key = Secret("key", #{ store: store, value: secret("hidden"), scopes: ["workers"], comment: "a key", naming: "stage" });
Secret("named", #{ store: store.ref("id"), name: "KEY", value: "plain" });
let near = Hyperdrive("near", #{
    origin: #{ scheme: "mysql", host: "db.example.com", port: 3306, database: "main", user: "me", password: secret("hidden") },
    caching: #{ disabled: false, maxAge: 30, staleWhileRevalidate: 15 },
    mtls: #{ caCertificateId: "ca", mtlsCertificateId: "own", sslMode: "verify-full" },
    originConnectionLimit: 20, naming: "stage",
});
Hyperdrive("tunnel", #{
    name: "first-name",
    origin: #{ host: "db.internal", database: "main", user: "me", password: "p", accessClientId: "a", accessClientSecret: secret("b") },
});
Hyperdrive("text", #{ origin: secret("postgres://me:hidden@db.example.com/main") });
let index = VectorizeIndex("index", #{
    dimensions: 768, metric: "euclidean", description: "words", naming: "stage",
    metadataIndexes: [#{ propertyName: "url", indexType: "string" }, #{ propertyName: "age", indexType: "number" }],
});
VectorizeIndex("preset", #{ name: "preset", preset: "@cf/baai/bge-base-en-v1.5" });
let other = Worker("other", #{ script: "export default {}", url: false });
Worker("bound", #{ script: "export default {}", url: false, bindings: #{
    KEY: key, DB: near, INDEX: index, LIMIT: RateLimit(#{ namespaceId: 1, limit: 10, period: 60 }),
    EVENTS: AnalyticsEngine("events"), AI: Ai(), BROWSER: BrowserRendering(), IMAGES: Images(),
    VERSION: VersionMetadata(), DATA: Json("text"), SELF: Self(#{ entrypoint: "Inner" }),
    OTHER: Service(other, #{ entrypoint: "Admin" }),
} });
"#;
const STORES_CHANGED: &str = r#"
let store = SecretsStore("store", #{ naming: "stage" });
Secret("key", #{ store: store, value: secret("changed"), naming: "stage" });
Hyperdrive("near", #{ origin: secret("postgres://me:other@db.example.com/main"), naming: "stage" });
Hyperdrive("tunnel", #{ name: "second-name", origin: "postgres://me:p@db.example.com/main" });
VectorizeIndex("index", #{
    dimensions: 768, metric: "euclidean", description: "words", naming: "stage",
    metadataIndexes: [#{ propertyName: "age", indexType: "boolean" }],
});
VectorizeIndex("preset", #{ name: "preset", dimensions: 3 });
Hyperdrive("theirs", #{ name: "theirs", origin: "postgres://me:p@db.example.com/main", adopt: true });
VectorizeIndex("theirs-too", #{ name: "theirs", dimensions: 3, adopt: true });
"#;
const STORES_REFUSED: &str = r#"
Hyperdrive("theirs", #{ name: "theirs", origin: "postgres://me:p@db.example.com/main" });
VectorizeIndex("theirs-too", #{ name: "theirs", dimensions: 3 });
"#;

#[test]
fn stores_and_indexes() {
    let config = (
        "POST",
        "hyperdrive/configs",
        r#"{"name":"theirs","origin":{"scheme":"postgres","host":"h","port":1,"database":"d","user":"u","password":"p"}}"#,
    );
    let index = (
        "POST",
        "vectorize/v2/indexes",
        r#"{"name":"theirs","config":{"dimensions":3,"metric":"cosine"}}"#,
    );
    assert_sent(
        &[config, index],
        &[
            refused(STORES_REFUSED),
            run(STORES),
            run(STORES),
            run(STORES_CHANGED),
            refresh(STORES_CHANGED),
            DESTROY,
        ],
        &[
            "DELETE hyperdrive/configs/{hyperdrive_id}",
            "DELETE secrets_store/stores/{store_id}",
            "DELETE secrets_store/stores/{store_id}/secrets/{secret_id}",
            "DELETE vectorize/v2/indexes/{index_name}",
            "DELETE workers/scripts/{script_name}",
            "GET hyperdrive/configs",
            "GET hyperdrive/configs/{hyperdrive_id}",
            "GET secrets_store/stores/{store_id}",
            "GET secrets_store/stores/{store_id}/secrets/{secret_id}",
            "GET vectorize/v2/indexes",
            "GET vectorize/v2/indexes/{index_name}",
            "GET vectorize/v2/indexes/{index_name}/metadata_index/list",
            "GET workers/services/{service_name}",
            "PATCH secrets_store/stores/{store_id}/secrets/{secret_id}",
            "POST hyperdrive/configs",
            "POST secrets_store/stores",
            "POST secrets_store/stores/{store_id}/secrets",
            "POST vectorize/v2/indexes",
            "POST vectorize/v2/indexes/{index_name}/metadata_index/create",
            "POST vectorize/v2/indexes/{index_name}/metadata_index/delete",
            "PUT hyperdrive/configs/{hyperdrive_id}",
            "PUT workers/scripts/{script_name}",
        ],
    );
}

const GATEWAYS: &str = r#"
AiGateway("models", #{
    cacheTtl: 60, cacheInvalidateOnUpdate: false, collectLogs: false, rateLimitingInterval: 60, rateLimitingLimit: 10,
    rateLimitingTechnique: "sliding", authentication: true, logManagement: 10000,
    logManagementStrategy: "DELETE_OLDEST", logpush: true, logpushPublicKey: "a public key of enough length",
});
AiGateway("named", #{ name: "named" });
AiGateway("other", #{ gatewayName: "other", naming: "stage" });
let office = Tunnel("office", #{
    tunnelSecret: secret("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="), configSrc: "cloudflare", naming: "stage",
    ingress: [
        #{ hostname: "office.example.com", path: "/api", service: "http://localhost:8080",
           originRequest: #{ connectTimeout: 10 } },
        #{ service: "http_status:404" },
    ],
    originRequest: #{ noTLSVerify: true },
    warpRouting: #{ enabled: true },
});
Tunnel("plain", #{ configSrc: "local" });
Tunnel("named-too", #{ name: "first-name" });
let zone = Zone("example.com");
DnsRecords("records", #{ zone: zone, records: [
    #{ type: "CNAME", name: "office", content: office.ref("domain"), proxied: true },
] });
"#;
const GATEWAYS_CHANGED: &str = r#"
AiGateway("models");
AiGateway("named", #{ name: "other-name" });
AiGateway("theirs", #{ name: "theirs", adopt: true });
Tunnel("office", #{ naming: "stage" });
Tunnel("plain");
Tunnel("named-too", #{ name: "second-name" });
Tunnel("theirs-too", #{ name: "theirs", adopt: true });
"#;
const GATEWAYS_REFUSED: &str = r#"
AiGateway("theirs", #{ name: "theirs" });
Tunnel("theirs-too", #{ name: "theirs" });
"#;

#[test]
fn gateways_and_tunnels() {
    let gateway = (
        "POST",
        "ai-gateway/gateways",
        r#"{"id":"theirs","cache_invalidate_on_update":true,"cache_ttl":0,"collect_logs":true,"rate_limiting_interval":0,"rate_limiting_limit":0}"#,
    );
    let tunnel = ("POST", "cfd_tunnel", r#"{"name":"theirs"}"#);
    assert_sent(
        &[gateway, tunnel],
        &[
            refused(GATEWAYS_REFUSED),
            run(GATEWAYS),
            run(GATEWAYS),
            run(GATEWAYS_CHANGED),
            refresh(GATEWAYS_CHANGED),
            DESTROY,
        ],
        // The description knows neither gateways nor tunnels.
        &[
            "DELETE /zones/{zone_id}",
            "GET /zones/{zone_id}/dns_records",
            "POST /zones",
            "POST /zones/{zone_id}/dns_records/batch",
        ],
    );
}
