//! Where the data of the local cloud lies: the file names that Miniflare computes for its storage objects.
//!
//! Only names and paths; nothing is read or written here. A storage object (one D1 database, one KV namespace, one R2
//! bucket) is a Durable Object in Miniflare, and its file is named by the id that workerd derives from its name.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The storage object class behind D1 databases.
pub const D1_CLASS: &str = "miniflare-D1DatabaseObject";
/// The storage object class behind KV namespaces.
pub const KV_CLASS: &str = "miniflare-KVNamespaceObject";
/// The storage object class behind R2 buckets.
pub const R2_CLASS: &str = "miniflare-R2BucketObject";

/// The folder of all instances of workflows, below it one folder a workflow.
pub const WORKFLOWS: &str = "workflows";

/// The folder of all Durable Objects, below it one folder a namespace.
pub const OBJECTS: &str = "do";

/// The id, 64 hexadecimal digits, of the object that `name` has in the class with `unique_key`.
///
/// It is `hex(n ‖ HMAC(k, n)[..16])` with `k = SHA-256(unique_key)` and `n = HMAC(k, name)[..16]`.
#[must_use]
pub fn object_id(unique_key: &str, name: &str) -> String {
    let key = Sha256::digest(unique_key.as_bytes());
    let tag = hmac(&key, name.as_bytes());
    let name_part = &tag[..16];
    let check = hmac(&key, name_part);
    format!("{}{}", hex::encode(name_part), hex::encode(&check[..16]))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The SQLite file of a D1 database.
#[must_use]
pub fn d1_file(folder: &Path, database: &str) -> PathBuf {
    object_file(&folder.join("d1"), D1_CLASS, database)
}

/// The SQLite file with the entries of a KV namespace.
#[must_use]
pub fn kv_file(folder: &Path, namespace: &str) -> PathBuf {
    object_file(&folder.join("kv"), KV_CLASS, namespace)
}

/// The folder with the values of a KV namespace.
#[must_use]
pub fn kv_folder(folder: &Path, namespace: &str) -> PathBuf {
    folder.join("kv").join(namespace)
}

/// The SQLite file with the object records of an R2 bucket, named as [`bucket_key`] says.
#[must_use]
pub fn r2_file(folder: &Path, bucket: &str) -> PathBuf {
    object_file(&folder.join("r2"), R2_CLASS, bucket)
}

/// The folder with the contents of an R2 bucket's objects.
#[must_use]
pub fn r2_folder(folder: &Path, bucket: &str) -> PathBuf {
    folder.join("r2").join(bucket)
}

/// The name under which the data of a bucket is stored: its own, after its jurisdiction when it has one (a bucket name
/// holds no dot, so the two cannot meet).
#[must_use]
pub fn bucket_key(jurisdiction: &str, bucket: &str) -> String {
    if jurisdiction == "default" {
        bucket.to_owned()
    } else {
        format!("{jurisdiction}.{bucket}")
    }
}

/// The folder with the objects of a namespace of Durable Objects, one SQLite file each.
#[must_use]
pub fn objects_folder(folder: &Path, namespace: &str) -> PathBuf {
    folder.join(OBJECTS).join(namespace)
}

/// The key of the objects that the instances of a workflow run in.
#[must_use]
pub fn workflow_key(workflow: &str) -> String {
    format!("miniflare-workflows-{workflow}")
}

/// The folder with the instances of a workflow, one SQLite file each.
#[must_use]
pub fn instances_folder(folder: &Path, workflow: &str) -> PathBuf {
    folder.join(WORKFLOWS).join(workflow_key(workflow))
}

/// The folder of Worker modules, each named by the hash of its content.
#[must_use]
pub fn modules_folder(folder: &Path) -> PathBuf {
    folder.join("workers").join("modules")
}

/// The folder of files on their way into or out of databases.
#[must_use]
pub fn transfers_folder(folder: &Path) -> PathBuf {
    folder.join("transfers")
}

fn object_file(folder: &Path, unique_key: &str, name: &str) -> PathBuf {
    folder
        .join(unique_key)
        .join(format!("{}.sqlite", object_id(unique_key, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_ids_are_known() {
        for (unique_key, name, id) in [
            (
                D1_CLASS,
                "d1id1",
                "f6941c74255493e99ee3b4dd5ec4f18e680b75686827a93591aa65427360e1f7",
            ),
            (
                KV_CLASS,
                "kvid1",
                "a74dd54a60c3278b0b5993531e08c8a3d1e54833aa317fa6dd6aff4455d02a2a",
            ),
        ] {
            assert_eq!(object_id(unique_key, name), id);
        }
    }

    #[test]
    fn a_bucket_of_a_jurisdiction_lies_apart() {
        assert_eq!(bucket_key("default", "files"), "files");
        assert_eq!(bucket_key("eu", "files"), "eu.files");
    }
}
