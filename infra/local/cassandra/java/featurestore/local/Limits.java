package featurestore.local;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.Set;

/** Units a second that every table, and every partition, may take; 0 is no limit. */
record Limits(double wcu, double rcu, double partitionWcu, double partitionRcu) {
    // https://docs.aws.amazon.com/keyspaces/latest/devguide/quotas.html
    private static final double PARTITION_WCU = 1000;
    private static final double PARTITION_RCU = 3000;
    private static final Set<String> KEYS = Set.of("wcu", "rcu", "partition.wcu", "partition.rcu");

    /** Limits of tables, with what Keyspaces gives a partition where they are limits. */
    static Limits ofTables(double wcu, double rcu) {
        return new Limits(wcu, rcu, wcu > 0 ? PARTITION_WCU : 0, rcu > 0 ? PARTITION_RCU : 0);
    }

    /** The limits in a properties file, others where it has none; throws IllegalArgumentException for what is no such file. */
    static Limits read(Path file, Limits others) throws IOException {
        Properties found = new Properties();
        try (Reader reader = Files.newBufferedReader(file)) {
            found.load(reader);
        }
        // A file of which only a part is there may well look like this.
        if (found.isEmpty() || !KEYS.containsAll(found.stringPropertyNames()))
            throw new IllegalArgumentException("it has " + found.stringPropertyNames() + ", not some of " + KEYS);
        Limits tables = ofTables(units(found, "wcu", others.wcu), units(found, "rcu", others.rcu));
        return new Limits(tables.wcu, tables.rcu,
                          units(found, "partition.wcu", tables.partitionWcu), units(found, "partition.rcu", tables.partitionRcu));
    }

    private static double units(Properties found, String key, double other) {
        String text = found.getProperty(key);
        double units = text == null ? other : Double.parseDouble(text);
        if (!(units >= 0 && units < Double.POSITIVE_INFINITY)) throw new IllegalArgumentException(key + " is " + text);
        return units;
    }
}
