//! The tests that enter where the world enters, and the laws of the house.

mod audit;
mod browser;
mod decisions;
mod demo;
mod first_hour;
mod forward_proxy;
mod front_door;
mod house;
mod kill;
mod levels;
mod link;
mod model_call;
mod network;
mod openclaw;
mod policy;
mod secrets;
mod tool_call;
mod tools;
mod vault;
