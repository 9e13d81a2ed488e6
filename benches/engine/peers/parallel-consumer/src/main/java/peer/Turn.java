package peer;

import io.vertx.core.json.JsonObject;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** One record, its answer, and the ids of everything that its end writes. */
final class Turn {
    final long company;
    final UUID event;
    final String address;
    final String name;
    final String replyTo;
    final String providerId;
    final String body;
    final JsonObject content;
    final long occurredAt;
    final long receivedAt;
    final String traceparent;
    final int partition;
    final long offset;
    final UUID conversation;
    final UUID turn;
    final UUID reply;
    UUID contact;
    String answer;
    String model;
    long tokensIn;
    long tokensOut;

    Turn(ConsumerRecord<byte[], byte[]> record) {
        var envelope = new JsonObject(new String(record.value(), StandardCharsets.UTF_8));
        var message = envelope.getJsonObject("payload");
        company = envelope.getLong("company_id");
        event = UUID.fromString(envelope.getString("event_id"));
        occurredAt = envelope.getLong("occurred_at");
        receivedAt = envelope.getLong("received_at");
        address = message.getString("address");
        name = message.getString("name");
        replyTo = message.getString("reply_to");
        providerId = message.getString("provider_id");
        content = message.getJsonObject("content");
        body = content.getString("body");
        var trace = record.headers().lastHeader("traceparent");
        traceparent = trace == null ? null : new String(trace.value(), StandardCharsets.UTF_8);
        partition = record.partition();
        offset = record.offset();
        contact = Ids.contact(company, address);
        conversation = Ids.conversation(company, contact);
        turn = Ids.turn(company, event);
        reply = Ids.reply(company, turn);
    }

    /** Stores Gemini's answer. */
    Turn answered(JsonObject answer) {
        var candidate = answer.getJsonArray("candidates").getJsonObject(0);
        this.answer = candidate.getJsonObject("content").getJsonArray("parts").getJsonObject(0).getString("text");
        model = answer.getString("modelVersion");
        var tokens = answer.getJsonObject("usageMetadata");
        tokensIn = tokens.getLong("promptTokenCount");
        tokensOut = tokens.getLong("candidatesTokenCount");
        return this;
    }

    /** The request to the model: the message alone, without earlier ones. */
    JsonObject prompt() {
        var part = new JsonObject().put("text", body);
        var message = new JsonObject().put("role", "user").put("parts", java.util.List.of(part));
        return new JsonObject().put("contents", java.util.List.of(message));
    }

    /** The headers of an event of this turn, as the outbox keeps them: pairs of a name and a value in base64. */
    String headers(UUID event, String kind, long at) {
        var pairs = new StringBuilder("[");
        pair(pairs, "company", Long.toString(company));
        pair(pairs, "event_id", event.toString());
        pair(pairs, "kind", kind);
        pair(pairs, "schema", "1");
        pair(pairs, "epoch", "1");
        pair(pairs, "occurred_at", Long.toString(at));
        pair(pairs, "received_at", Long.toString(at));
        if (traceparent != null) {
            pair(pairs, "traceparent", traceparent);
        }
        pairs.setCharAt(pairs.length() - 1, ']');
        return pairs.toString();
    }

    private static void pair(StringBuilder pairs, String name, String value) {
        var encoded = Base64.getEncoder().encodeToString(value.getBytes(StandardCharsets.UTF_8));
        pairs.append("[\"").append(name).append("\",\"").append(encoded).append("\"],");
    }

    /** The payload of an event of this turn. */
    byte[] envelope(UUID event, String kind, long at, JsonObject payload) {
        return new JsonObject()
                .put("schema", 1)
                .put("event_id", event.toString())
                .put("company_id", company)
                .put("kind", kind)
                .put("occurred_at", at)
                .put("received_at", at)
                .put("payload", payload)
                .toBuffer()
                .getBytes();
    }
}
