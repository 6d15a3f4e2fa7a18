package featurestore.local;

import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What requests of one kind (writes, or reads) may take of tables and of their partitions, and what they took. */
final class Capacity {
    // A million of them would fill the heap. One that is dropped was alone while so many others were used: over a second on one
    // machine, so its bucket was full again, as that of a partition that is not known is.
    private static final int PARTITIONS = 20_000;

    private final Map<Table, Bucket> tables = new HashMap<>();
    private final Map<Partition, Bucket> partitions = new LinkedHashMap<>(16, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<Partition, Bucket> eldest) {
            return size() > PARTITIONS;
        }
    };
    private final Map<Table, Account> accounts = new HashMap<>();

    /** Take all that a request needs; false if a table or a partition has too little left now: then nothing is taken. */
    synchronized boolean take(List<Cost> costs, double perTable, double perPartition) {
        long now = System.nanoTime();
        Map<Bucket, Double> needs = new HashMap<>();
        for (Cost cost : costs) {
            if (perTable > 0) needs.merge(bucket(tables, cost.table, perTable, now), cost.units(), Double::sum);
            if (perPartition > 0)
                for (ByteBuffer key : cost.partitions)
                    needs.merge(bucket(partitions, new Partition(cost.table, key), perPartition, now), cost.each, Double::sum);
        }
        boolean taken = needs.entrySet().stream().allMatch(need -> need.getKey().has(need.getValue()));
        if (taken) needs.forEach(Bucket::take);
        for (Cost cost : costs) accounts.merge(cost.table, Account.of(cost, taken), Account::plus);
        return taken;
    }

    synchronized Map<Table, Account> accounts() {
        return Map.copyOf(accounts);
    }

    private static <K> Bucket bucket(Map<K, Bucket> buckets, K key, double perSecond, long now) {
        Bucket bucket = buckets.computeIfAbsent(key, missing -> new Bucket());
        bucket.refill(perSecond, now);
        return bucket;
    }

    record Table(String keyspace, String name) {}

    private record Partition(Table table, ByteBuffer key) {}

    /** What one statement needs: so many units of each partition that it names, or of the table alone if it names none. */
    record Cost(Table table, List<ByteBuffer> partitions, double each, long bytes) {
        double units() {
            return each * Math.max(1, partitions.size());
        }
    }

    /** What was asked of a table since the server's start; units and bytes are of what was not refused. */
    record Account(long taken, long refused, double units, long bytes) {
        static final Account NONE = new Account(0, 0, 0, 0);

        static Account of(Cost cost, boolean taken) {
            return taken ? new Account(1, 0, cost.units(), cost.bytes) : new Account(0, 1, 0, 0);
        }

        Account plus(Account other) {
            return new Account(taken + other.taken, refused + other.refused, units + other.units, bytes + other.bytes);
        }
    }

    /** Holds one second's worth, whatever a second is worth at the moment; a new one is full. */
    private static final class Bucket {
        private double perSecond;
        private double left = Double.MAX_VALUE;
        private long last;

        void refill(double perSecond, long now) {
            this.perSecond = perSecond;
            left = Math.min(perSecond, left + (now - last) / 1e9 * perSecond);
            last = now;
        }

        /** What costs more than the bucket holds could never be had: it waits for a full one, and leaves it in debt. */
        boolean has(double units) {
            return left >= Math.min(units, Math.max(1, perSecond));
        }

        void take(double units) {
            left -= units;
        }
    }
}
