package peer;

import static io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder.KEY;

import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.vertx.VertxParallelEoSStreamProcessor;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.VertxOptions;
import io.vertx.ext.web.client.WebClient;
import io.vertx.ext.web.client.WebClientOptions;
import java.net.URI;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Confluent's parallel consumer with the result transaction of `reply`: a record, a call to the model, a commit.
 *
 * <p>In its non-blocking form, one record per key at a time, as many in flight as the window allows. What it does not do: no
 * durable queue (what is in flight is in memory, and is called again after a crash), no leases, no fairness among companies,
 * no reservation of tokens before the call, no reading of earlier messages, no quiet period, no check of signatures.
 */
public final class Peer {
    private Peer() {}

    public static void main(String[] arguments) throws Exception {
        var environment = System.getenv();
        int window = Integer.parseInt(environment.get("WINDOW"));
        var model = URI.create(environment.get("MODEL"));
        var results = new Results(jdbc(environment.get("DATABASE")));
        var consumer = new KafkaConsumer<byte[], byte[]>(Map.of(
                "bootstrap.servers", environment.get("BOOTSTRAP"),
                "group.id", environment.get("TOPIC") + "-peer",
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false",
                "key.deserializer", ByteArrayDeserializer.class.getName(),
                "value.deserializer", ByteArrayDeserializer.class.getName()));
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .ordering(KEY)
                .maxConcurrency(window)
                .consumer(consumer)
                .build();
        var vertx = Vertx.vertx(new VertxOptions().setEventLoopPoolSize(2));
        var client = WebClient.create(vertx, new WebClientOptions()
                .setMaxPoolSize(window)
                .setKeepAlive(true)
                .setTcpNoDelay(true));
        var processor = new VertxParallelEoSStreamProcessor<byte[], byte[]>(vertx, client, options);
        processor.subscribe(List.of(environment.get("TOPIC")));
        processor.vertxFuture(context -> {
            var turn = new Turn(context.getSingleConsumerRecord());
            return client.post(model.getPort(), model.getHost(), model.getPath())
                    .putHeader("content-type", "application/json")
                    .putHeader("x-goog-api-key", "bench")
                    .sendBuffer(turn.prompt().toBuffer())
                    .compose(answer -> {
                        Promise<Void> committed = Promise.promise();
                        results.add(turn.answered(answer.bodyAsJsonObject()), committed);
                        return committed.future();
                    });
        });
        Runtime.getRuntime().addShutdownHook(new Thread(processor::closeDrainFirst));
        Thread.currentThread().join();
    }

    /** `postgres://user@host:port/database` in the form of JDBC. */
    private static String jdbc(String url) {
        var address = URI.create(url);
        return "jdbc:postgresql://" + address.getHost() + ":" + address.getPort() + address.getPath() + "?user="
                + address.getUserInfo() + "&reWriteBatchedInserts=true";
    }
}
