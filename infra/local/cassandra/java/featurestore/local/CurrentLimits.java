package featurestore.local;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.Objects;

/** The limits of the server's start (-Dkeyspaces.wcu, -Dkeyspaces.rcu), or those of a file while it is there. */
final class CurrentLimits {
    private static final long LOOK_NANOS = 100_000_000;

    private final Limits start;
    private final Path file;
    private Limits limits;
    private Version version;
    private String error;
    private long looked = System.nanoTime() - LOOK_NANOS;

    CurrentLimits(Limits start, Path file) {
        this.start = start;
        this.file = file;
        limits = start;
    }

    static CurrentLimits ofSystemProperties() {
        String file = System.getProperty("keyspaces.capacity.file");
        return new CurrentLimits(Limits.ofTables(Double.parseDouble(System.getProperty("keyspaces.wcu", "0")),
                                                 Double.parseDouble(System.getProperty("keyspaces.rcu", "0"))),
                                 file == null ? null : Path.of(file));
    }

    synchronized Limits get() {
        long now = System.nanoTime();
        if (file != null && now - looked >= LOOK_NANOS) {
            looked = now;
            look();
        }
        return limits;
    }

    /** Why the file is not in force; null if it is, or if there is none. To be asked here, as the log ends with the server's start. */
    synchronized String error() {
        return error;
    }

    /** What can't be read changes nothing, and is not read again before the file is another. */
    private void look() {
        try {
            Version found = Version.of(file);
            if (Objects.equals(found, version)) return;
            version = found;
            limits = found == null ? start : Limits.read(file, start);
            error = null;
        } catch (IOException | IllegalArgumentException e) {
            error = e.toString();
        }
    }

    /** The inode too: files renamed into place within one tick of the clock may have the same size. */
    private record Version(FileTime modified, long size, Object inode) {
        /** Null if there is no file. */
        static Version of(Path file) throws IOException {
            try {
                BasicFileAttributes is = Files.readAttributes(file, BasicFileAttributes.class);
                return new Version(is.lastModifiedTime(), is.size(), is.fileKey());
            } catch (NoSuchFileException e) {
                return null;
            }
        }
    }
}
