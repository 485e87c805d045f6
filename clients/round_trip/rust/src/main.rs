//! Reads documents through the generated models, and prints what the models write: ../test_languages.py.
#[allow(dead_code, unused_imports, clippy::all)]
mod models;

use serde::{de::DeserializeOwned, Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Input {
    documents: BTreeMap<String, Vec<Value>>,
}

fn round_trip<T: DeserializeOwned + Serialize>(document: Value) -> Value {
    let read: T = serde_json::from_value(document).unwrap();
    serde_json::to_value(read).unwrap()
}

fn trip_of(name: &str) -> fn(Value) -> Value {
    match name {
        "AddedCustomerEnvelope" => round_trip::<models::AddedCustomerEnvelope>,
        "CustomerChanges" => round_trip::<models::CustomerChanges>,
        "CustomerEnvelope" => round_trip::<models::CustomerEnvelope>,
        "CustomerInput" => round_trip::<models::CustomerInput>,
        "CustomerPageEnvelope" => round_trip::<models::CustomerPageEnvelope>,
        "DeletedCustomerEnvelope" => round_trip::<models::DeletedCustomerEnvelope>,
        "Problem" => round_trip::<models::Problem>,
        "UpdatedCustomerEnvelope" => round_trip::<models::UpdatedCustomerEnvelope>,
        _ => panic!("{}", name),
    }
}

fn main() {
    let given: Input = serde_json::from_reader(std::io::stdin()).unwrap();
    let written: BTreeMap<_, Vec<_>> = given
        .documents
        .into_iter()
        .map(|(name, documents)| {
            let trip = trip_of(&name);
            (name, documents.into_iter().map(trip).collect())
        })
        .collect();
    println!("{}", serde_json::to_string(&written).unwrap());
}
