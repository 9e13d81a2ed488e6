//! librdkafka's in-process broker, on a thread of its own: it may not move between threads.
#![expect(unsafe_code, reason = "the delay before a group's first assignment can be set through the C interface only")]

use std::sync::mpsc::{Sender, channel};

use domain::Topic;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// A broker that a test can take away, slow down and fence.
pub(crate) struct MockCluster {
    pub(crate) bootstrap: String,
    orders: Sender<Order>,
}

enum Order {
    Down,
    Up,
    RoundTrip(std::time::Duration),
    Fence,
    End,
}

impl MockCluster {
    /// Starts one broker with the pipeline's topics.
    pub(crate) fn start(partitions: u16) -> Self {
        let (orders, receive) = channel();
        let (ready, bootstrap) = channel();
        std::thread::spawn(move || {
            let holder: BaseProducer =
                ClientConfig::new().set("test.mock.num.brokers", "1").set("log_level", "0").create().unwrap();
            let cluster = holder.client().mock_cluster().expect("the client was asked to hold one");
            // SAFETY: the handle belongs to `holder`, which lives until this thread ends.
            unsafe {
                let handle = rdkafka_sys::rd_kafka_handle_mock_cluster(holder.client().native_ptr());
                rdkafka_sys::rd_kafka_mock_group_initial_rebalance_delay_ms(handle, 0);
            }
            for topic in Topic::ALL {
                cluster.create_topic(topic.as_str(), i32::from(partitions), 1).unwrap();
            }
            ready.send(cluster.bootstrap_servers()).unwrap();
            for order in receive {
                match order {
                    Order::Down => cluster.broker_down(1).unwrap(),
                    Order::Up => cluster.broker_up(1).unwrap(),
                    Order::RoundTrip(time) => cluster.broker_round_trip_time(1, time).unwrap(),
                    Order::Fence => {
                        let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
                        cluster.request_errors(RDKafkaApiKey::Heartbeat, &[fenced]);
                    }
                    Order::End => break,
                }
            }
        });
        MockCluster { bootstrap: bootstrap.recv().unwrap(), orders }
    }

    /// The broker answers no request.
    pub(crate) fn down(&self) {
        self.orders.send(Order::Down).unwrap();
    }

    /// The broker answers again.
    pub(crate) fn up(&self) {
        self.orders.send(Order::Up).unwrap();
    }

    /// Every response takes this long.
    pub(crate) fn round_trip(&self, time: std::time::Duration) {
        self.orders.send(Order::RoundTrip(time)).unwrap();
    }

    /// The next heartbeat is answered as if another member had the group instance id.
    pub(crate) fn fence(&self) {
        self.orders.send(Order::Fence).unwrap();
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
    }
}
