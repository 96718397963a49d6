//! What the provider sends for the kinds around Workers: zones, stores, indexes and their like.

use super::provider::{DESTROY, assert_sent, refresh, refused, run};

/// Scripts that use every prop of each kind.
pub(super) const SCRIPTS: &[(&str, &str)] = &[
    ("cloudflare::CustomDomain", ZONES),
    ("cloudflare::DnsRecords", ZONES),
    ("cloudflare::Route", ZONES),
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
