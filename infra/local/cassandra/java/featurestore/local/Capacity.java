package featurestore.local;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Requests per second that a table may take: one token bucket a table, that holds one second's worth. */
final class Capacity {
    private final double perSecond;
    private final Map<String, Bucket> tables = new ConcurrentHashMap<>();

    /** A capacity of 0 is no limit. */
    Capacity(double perSecond) {
        this.perSecond = perSecond;
    }

    /** Take one request of a table; false if it has none left now. */
    boolean take(String keyspace, String table) {
        return perSecond <= 0 || tables.computeIfAbsent(keyspace + "." + table, key -> new Bucket()).take();
    }

    private final class Bucket {
        private double left = perSecond;
        private long last = System.nanoTime();

        synchronized boolean take() {
            long now = System.nanoTime();
            left = Math.min(perSecond, left + (now - last) / 1e9 * perSecond);
            last = now;
            if (left < 1) return false;
            left -= 1;
            return true;
        }
    }
}
