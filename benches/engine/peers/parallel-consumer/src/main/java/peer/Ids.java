package peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.UUID;

/** The ids of `domain/src/identity.rs`: UUIDv5 over length-prefixed parts, so that both engines write the same rows. */
final class Ids {
    private static final byte[] NAMESPACE = bytes(UUID.fromString("7f0c9d2e-41b6-5c8a-9e37-2d6b8a14c3f5"));

    private Ids() {}

    static UUID contact(long company, String alias) {
        return derive(text("contact"), number(company), text("whaticket"), text(alias));
    }

    static UUID conversation(long company, UUID contact) {
        return derive(text("conversation"), number(company), bytes(contact));
    }

    static UUID turn(long company, UUID message) {
        return derive(text("turn"), number(company), bytes(message));
    }

    static UUID reply(long company, UUID turn) {
        return derive(text("reply"), number(company), bytes(turn));
    }

    static UUID usage(long company, String fact, UUID cause) {
        return derive(text("usage"), number(company), text(fact), bytes(cause));
    }

    static UUID modelCall(long company, UUID turn) {
        return derive(text("model_call"), number(company), bytes(turn), number(1), number(0));
    }

    static UUID end(long company, UUID turn) {
        return derive(text("end"), number(company), text("turn_ended"), bytes(turn), number(1));
    }

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] number(long number) {
        return ByteBuffer.allocate(8).putLong(number).array();
    }

    private static byte[] number(int number) {
        return ByteBuffer.allocate(4).putInt(number).array();
    }

    private static byte[] bytes(UUID id) {
        return ByteBuffer.allocate(16).putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits()).array();
    }

    private static UUID derive(byte[]... parts) {
        try {
            var sha = MessageDigest.getInstance("SHA-1");
            sha.update(NAMESPACE);
            for (var part : parts) {
                sha.update(number(part.length));
                sha.update(part);
            }
            var hash = ByteBuffer.wrap(sha.digest());
            long high = hash.getLong() & 0xffffffffffff0fffL | 0x5000L;
            long low = hash.getLong() & 0x3fffffffffffffffL | 0x8000000000000000L;
            return new UUID(high, low);
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
